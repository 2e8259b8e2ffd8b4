/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/chain-layer.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/mapping.h"
#include "engine/unpacked.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define SECTOR 512

static int data_fd(const struct chain_layer *layer)
{
	return layer->fd >= 0 ? layer->fd : qcow2_fd(layer->qcow2);
}

/* ---- open ---- */

/* QEMU counts raw files in sectors. */
int raw_size(int fd, const char *path, uint64_t *ret, struct err *err)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	size = st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &size) < 0)
		return err_sys(err, errno, "cannot learn the size of %s", path);
	*ret = (size + SECTOR - 1) / SECTOR * SECTOR;
	return 0;
}

/* QEMU takes a name that is not absolute from wherever it was started: nobody
 * can tell which file that is. */
static int open_data_file(struct chain_layer *layer, struct err *err)
{
	const char *name = qcow2_header(layer->qcow2)->data_file;

	if (!name || name[0] != '/')
		return err_set(err, EOPNOTSUPP, "%s uses an external data file '%s' that is not "
			       "named by an absolute path, which cannot be read", layer->path,
			       name ?: "");
	layer->fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (layer->fd < 0)
		return err_sys(err, errno, "cannot open %s, the data file of %s", name,
			       layer->path);
	return 0;
}

static int open_qcow2(struct chain_layer *layer, struct err *err)
{
	int r = qcow2_open(steal_fd(&layer->fd), layer->path, &layer->qcow2, err);

	if (r < 0)
		return r;
	layer->size = qcow2_header(layer->qcow2)->size;
	return qcow2_header(layer->qcow2)->incompatible & QCOW2_DATA_FILE ?
		       open_data_file(layer, err) : 0;
}

int chain_layer_open(struct chain_layer *layer, const char *path, const char *format,
		     struct err *err)
{
	struct stat st;
	int r;

	layer->path = xstrdup(path);
	layer->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (layer->fd < 0)
		return err_sys(err, errno, "cannot open the layer %s", path);
	if (fstat(layer->fd, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, EOPNOTSUPP, "%s is neither a file nor a block device", path);
	layer->dev = st.st_dev;
	layer->ino = st.st_ino;
	r = streq(format, "raw") ? raw_size(layer->fd, path, &layer->size, err) :
				   open_qcow2(layer, err);
	if (r >= 0)
		layer->data = mapping_new(data_fd(layer));
	return r;
}

void chain_layer_close(struct chain_layer *layer)
{
	mapping_free(layer->data);
	if (layer->qcow2)
		unpacked_forget(layer->qcow2);
	qcow2_close(layer->qcow2);
	if (layer->fd >= 0)
		close(layer->fd);
	free(layer->path);
}

/* ---- the map ---- */

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Where the next data of a raw file begin, and where they end. A file system
 * that does not know says that all is data. */
static void next_data(const struct chain_layer *layer, uint64_t from, uint64_t *ret_begin,
		      uint64_t *ret_end)
{
	off_t begin = lseek(layer->fd, from, SEEK_DATA), end;

	if (begin < 0 && errno == ENXIO) {
		*ret_begin = *ret_end = layer->size;
		return;
	}
	if (begin < 0)
		begin = from;
	end = lseek(layer->fd, begin, SEEK_HOLE);
	*ret_begin = begin;
	*ret_end = end < 0 ? layer->size : (uint64_t)end;
	/* The end of the file is in the middle of a sector: the rest is read as zero. */
	if (*ret_end / SECTOR == (layer->size - 1) / SECTOR)
		*ret_end = layer->size;
}

static void map_raw(const struct chain_layer *layer, uint64_t from, uint64_t length,
		    qcow2_run_fn *fn, void *opaque)
{
	uint64_t to = from + length;

	while (from < to) {
		struct qcow2_run run = { .start = from, .kind = QCOW2_UNALLOCATED };
		uint64_t begin, end;

		next_data(layer, from, &begin, &end);
		if (begin > from) {
			run.length = min(begin, to) - from;
		} else {
			run.kind = QCOW2_DATA;
			run.host = from;
			run.length = min(end, to) - from;
		}
		fn(opaque, &run);
		from += run.length;
	}
}

void chain_layer_map(const struct chain_layer *layer, uint64_t offset, uint64_t length,
		     qcow2_run_fn *fn, void *opaque)
{
	if (layer->qcow2)
		qcow2_map(layer->qcow2, offset, length, fn, opaque);
	else
		map_raw(layer, offset, length, fn, opaque);
}

uint64_t chain_layer_empty_length(const struct chain_layer *layer, uint64_t offset,
				  uint64_t limit)
{
	uint64_t begin, end;

	if (layer->qcow2)
		return qcow2_empty_length(layer->qcow2, offset, limit);
	next_data(layer, offset, &begin, &end);
	return begin > offset ? begin - offset : 0;
}

/* ---- reading ---- */

/* QEMU writes the last cluster of a file only as far as there is something in it:
 * the rest of it is zero. What would begin behind it was lost. */
static bool is_lost(const struct chain_layer *layer, uint64_t host_end)
{
	uint64_t unit = layer->qcow2 ? qcow2_cluster_size(layer->qcow2) : SECTOR;
	struct stat st;

	return fstat(data_fd(layer), &st) < 0 ||
	       host_end > (st.st_size + unit - 1) / unit * unit;
}

static int read_data(const struct chain_layer *layer, uint64_t at, size_t length, char *buf,
		     struct err *err)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = pread(data_fd(layer), buf + done, length - done, at + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, EIO, "cannot read %s", layer->path);
		if (n == 0 && is_lost(layer, at + length))
			return err_set(err, EIO, "%s is cut off: data of it are missing",
				       layer->path);
		if (n == 0) {
			memset(buf + done, 0, length - done);
			break;
		}
		done += n;
	}
	return 0;
}

/* Shorter ones are copied faster than the kernel finds them in a mapping. */
#define POINT_FROM 4096

static const void *point_to(const struct chain_layer *layer, uint64_t at, size_t length)
{
	const void *p = length >= POINT_FROM ? mapping_at(layer->data, at, length) : NULL;

	return p && (length >= MAPPING_SHORT || mapping_is_ready(layer->data, at, length)) ? p : NULL;
}

static int gather_data(const struct chain_layer *layer, uint64_t at, size_t length,
		       struct gather *g, struct err *err)
{
	const void *p = gather_can_point(g) ? point_to(layer, at, length) : NULL;

	if (!p)
		return read_data(layer, at, length, gather_room(g, length), err);
	gather_point(g, p, length);
	return 0;
}

static void gather_zeroes(struct gather *g, size_t length)
{
	static const char zeroes[65536];

	while (length > 0 && gather_can_point(g)) {
		size_t part = min(length, sizeof(zeroes));

		gather_point(g, zeroes, part);
		length -= part;
	}
	if (length > 0)
		memset(gather_room(g, length), 0, length);
}

int chain_layer_read(const struct chain_layer *layer, const struct piece *piece, uint64_t offset,
		     size_t length, struct gather *g, struct err *err)
{
	int r = 0;

	switch (piece->kind) {
	case PIECE_HOLE:
	case PIECE_ZERO:
		gather_zeroes(g, length);
		break;
	case PIECE_DATA:
		return gather_data(layer, piece->host + (offset - piece->start), length, g, err);
	case PIECE_COMPRESSED:
		r = unpacked_read(layer->qcow2, piece->host,
				  offset & (qcow2_cluster_size(layer->qcow2) - 1), length,
				  gather_room(g, length), err);
		if (r < 0)
			err_wrap(err, "%s", layer->path);
		break;
	case PIECE_DAMAGED:
		return err_set(err, EIO, "%s is damaged: there is %s", layer->path, piece->damage);
	}
	return r;
}
