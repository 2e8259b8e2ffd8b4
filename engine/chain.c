/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A chain of layers as one image.
 *
 * Everything goes through one question, extents(): read, lseek and stat ask it,
 * and so will whatever else serves an image. It is answered by asking each
 * layer from the top down until one holds the range, and joining what is
 * alike. That costs a look into a cached table per layer; flattening the chain
 * into one map would take its place here, behind the same question.
 *
 * A layer that is smaller than the one on top of it reads as zeroes beyond its
 * end, whatever lies under it there: its end is the end of that branch.
 */
#include "engine/chain.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"
#include "engine/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define SECTOR 512

struct image_layer {
	char *path;
	struct qcow2 *qcow2; /* NULL for a raw one */
	int fd;              /* of a raw one, else -1 */
	uint64_t size;       /* virtual, bytes */
	dev_t dev;
	ino_t ino;
};

struct image {
	vec_of(struct image_layer) layers; /* 0 is the top */
	uint64_t size;
};

/* ---- what lies under a layer ---- */

static int open_layer_file(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? err_sys(err, errno, "cannot open the layer %s", path) : fd;
}

/* As QEMU resolves it: against the folder of the file that names it. */
static char *resolve(const char *overlay, const char *name)
{
	const char *slash = strrchr(overlay, '/');

	if (name[0] == '/' || !slash)
		return xstrdup(name);
	return xasprintf("%.*s/%s", (int)(slash - overlay), overlay, name);
}

static int backing_of(const struct qcow2_header *h, const char *path, char **ret_path,
		      char **ret_format, struct err *err)
{
	const char *name = h->backing_file, *p;

	if (!name || !name[0]) {
		*ret_path = *ret_format = NULL;
		return 0;
	}
	if (strncmp(name, "file:", 5) == 0)
		name += 5;
	p = name + strcspn(name, ":/");
	if (*p == ':')
		return err_set(err, EOPNOTSUPP, "%s: its backing file '%s' is not named by a path, "
			       "which cannot be read", path, name);
	*ret_path = resolve(path, name);
	*ret_format = xstrdup(h->backing_format);
	return 0;
}

int layer_backing(const char *path, const char *format, char **ret_path, char **ret_format,
		  struct err *err)
{
	cleanup_close int fd = -1;
	struct qcow2_header *h;
	int r;

	if (!streq(format, "qcow2")) {
		*ret_path = *ret_format = NULL;
		return 0;
	}
	fd = open_layer_file(path, err);
	if (fd < 0)
		return fd;
	r = qcow2_header_read(fd, path, &h, err);
	if (r < 0)
		return r;
	r = backing_of(h, path, ret_path, ret_format, err);
	qcow2_header_free(h);
	return r;
}

/* QEMU counts raw files in sectors. */
static int raw_size(int fd, const char *path, uint64_t *ret, struct err *err)
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

int layer_virtual_size(const char *path, const char *format, uint64_t *ret, struct err *err)
{
	cleanup_close int fd = open_layer_file(path, err);
	struct qcow2_header *h;
	int r;

	if (fd < 0)
		return fd;
	if (!streq(format, "qcow2"))
		return raw_size(fd, path, ret, err);
	r = qcow2_header_read(fd, path, &h, err);
	if (r < 0)
		return r;
	*ret = h->size;
	qcow2_header_free(h);
	return 0;
}

/* ---- open ---- */

/* A chain in which a layer lies on itself would never end. */
static int check_loop(struct image *image, int fd, struct err *err)
{
	struct image_layer *this = &image->layers.at[image->layers.n - 1];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", this->path);
	this->dev = st.st_dev;
	this->ino = st.st_ino;
	for (size_t i = 0; i + 1 < image->layers.n; i++)
		if (image->layers.at[i].dev == st.st_dev && image->layers.at[i].ino == st.st_ino)
			return err_set(err, ELOOP, "%s lies on itself: its chain has no end",
				       this->path);
	return 0;
}

static int open_layer(struct image *image, const char *path, const char *format, struct err *err)
{
	struct image_layer *layer = vec_add(&image->layers);
	int fd, r;

	layer->fd = -1;
	layer->path = xstrdup(path);
	fd = open_layer_file(path, err);
	if (fd < 0)
		return fd;
	layer->fd = fd;
	r = check_loop(image, fd, err);
	if (r < 0)
		return r;
	if (streq(format, "raw"))
		return raw_size(fd, path, &layer->size, err);
	layer->fd = -1;
	r = qcow2_open(fd, path, &layer->qcow2, err);
	if (r < 0)
		return r;
	layer->size = qcow2_header(layer->qcow2)->size;
	return 0;
}

static int check_format(const char *path, const char *format, struct err *err)
{
	if (!format)
		return err_set(err, EOPNOTSUPP, "the format of the backing file %s is not named by "
			       "the layer on top of it, and is not guessed; name it with "
			       "qemu-img rebase -u -F FORMAT", path);
	if (!streq(format, "qcow2") && !streq(format, "raw"))
		return err_set(err, EOPNOTSUPP, "%s is of format %s, which cannot be read", path,
			       format);
	return 0;
}

static int open_chain(struct image *image, const char *path, const char *format, struct err *err)
{
	cleanup_free char *next = xstrdup(path), *next_format = xstrdup(format);

	while (next) {
		cleanup_free char *this = steal_pointer(&next);
		cleanup_free char *this_format = steal_pointer(&next_format);
		const struct image_layer *layer;
		int r = check_format(this, this_format, err);

		if (r >= 0 && image->layers.n == CHAIN_MAX_LAYERS)
			r = err_set(err, ELOOP, "the chain of %s has more than %d layers", path,
				    CHAIN_MAX_LAYERS);
		if (r >= 0)
			r = open_layer(image, this, this_format, err);
		if (r < 0)
			return r;
		layer = &image->layers.at[image->layers.n - 1];
		if (layer->qcow2)
			r = backing_of(qcow2_header(layer->qcow2), this, &next, &next_format, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int image_open(const char *path, const char *format, struct image **ret, struct err *err)
{
	struct image *image = xnew(struct image);
	int r = open_chain(image, path, format, err);

	if (r < 0) {
		image_close(image);
		return r;
	}
	image->size = image->layers.at[0].size;
	*ret = image;
	return 0;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->layers.n; i++) {
		qcow2_close(image->layers.at[i].qcow2);
		if (image->layers.at[i].fd >= 0)
			close(image->layers.at[i].fd);
		free(image->layers.at[i].path);
	}
	vec_free(&image->layers);
	free(image);
}

uint64_t image_size(const struct image *image)
{
	return image->size;
}

/* ---- extents ---- */

static int map_raw(const struct image_layer *layer, uint64_t offset, uint64_t length,
		   enum qcow2_kind *ret_kind, uint64_t *ret_length, struct err *err)
{
	off_t data = lseek(layer->fd, offset, SEEK_DATA), end;

	if (data < 0 && errno != ENXIO)
		data = offset; /* a file system that does not know: all is data */
	if (data < 0) {
		*ret_kind = QCOW2_UNALLOCATED;
		*ret_length = length;
		return 0;
	}
	if ((uint64_t)data > offset) {
		*ret_kind = QCOW2_UNALLOCATED;
		*ret_length = (uint64_t)data - offset < length ? (uint64_t)data - offset : length;
		return 0;
	}
	end = lseek(layer->fd, offset, SEEK_HOLE);
	if (end < 0)
		end = offset + length;
	/* The end of the file is in the middle of a sector: the rest is read as zero. */
	if ((uint64_t)end / SECTOR == (layer->size - 1) / SECTOR)
		end = layer->size;
	*ret_kind = QCOW2_DATA;
	*ret_length = (uint64_t)end - offset < length ? (uint64_t)end - offset : length;
	return 0;
}

static int map_layer(const struct image_layer *layer, uint64_t offset, uint64_t length,
		     enum qcow2_kind *ret_kind, uint64_t *ret_length, uint64_t *ret_host,
		     struct err *err)
{
	if (layer->qcow2)
		return qcow2_map(layer->qcow2, offset, length, ret_kind, ret_length, ret_host, err);
	*ret_host = offset;
	return map_raw(layer, offset, length, ret_kind, ret_length, err);
}

/* The first extent of a range that lies in the image. */
static int first_extent(const struct image *image, uint64_t offset, uint64_t length,
			struct extent *ret, struct err *err)
{
	for (size_t i = 0; i < image->layers.n && offset < image->layers.at[i].size; i++) {
		const struct image_layer *layer = &image->layers.at[i];
		enum qcow2_kind kind;
		uint64_t host = 0;
		int r;

		if (length > layer->size - offset)
			length = layer->size - offset;
		r = map_layer(layer, offset, length, &kind, &length, &host, err);
		if (r < 0)
			return r;
		if (kind == QCOW2_UNALLOCATED)
			continue;
		*ret = (struct extent){
			.start = offset, .length = length,
			.kind = kind == QCOW2_ZERO ? EXTENT_ZERO : EXTENT_DATA,
			.layer = kind == QCOW2_ZERO ? 0 : i,
			.offset = kind == QCOW2_ZERO ? 0 : host,
		};
		return 0;
	}
	*ret = (struct extent){ .start = offset, .length = length, .kind = EXTENT_HOLE };
	return 0;
}

static bool can_join(const struct extent *a, const struct extent *b)
{
	return a->kind == b->kind &&
	       (a->kind != EXTENT_DATA ||
		(a->layer == b->layer && a->offset + a->length == b->offset));
}

int image_extents(struct image *image, uint64_t offset, uint64_t length, struct extent *extents,
		  size_t max, size_t *ret_n, struct err *err)
{
	size_t n = 0;

	if (offset >= image->size)
		length = 0;
	else if (length > image->size - offset)
		length = image->size - offset;
	while (length > 0) {
		struct extent next;
		int r = first_extent(image, offset, length, &next, err);

		/* What comes before the damage is good; who asks on from there is told. */
		if (r < 0 && n > 0)
			break;
		if (r < 0)
			return r;
		if (n > 0 && can_join(&extents[n - 1], &next))
			extents[n - 1].length += next.length;
		else if (n < max)
			extents[n++] = next;
		else
			break;
		offset += next.length;
		length -= next.length;
	}
	*ret_n = n;
	return 0;
}

int image_allocated(struct image *image, uint64_t *ret, struct err *err)
{
	uint64_t offset = 0, allocated = 0;

	while (offset < image->size) {
		struct extent extents[64];
		size_t n;
		int r = image_extents(image, offset, image->size - offset, extents, 64, &n, err);

		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++) {
			if (extents[i].kind == EXTENT_DATA)
				allocated += extents[i].length;
			offset += extents[i].length;
		}
	}
	*ret = allocated;
	return 0;
}

/* ---- read ---- */

/* Whether the end of the file at `size` took more from `x` than the tail of one cluster (or of one sector). */
static bool tail_is_lost(const struct image_layer *layer, const struct extent *x, uint64_t size)
{
	uint64_t unit = layer->qcow2 ? 1ULL << qcow2_header(layer->qcow2)->cluster_bits : SECTOR;
	uint64_t end = (size + unit - 1) / unit * unit;

	return x->offset + x->length > end;
}

static int read_data(const struct image *image, const struct extent *x, char *buf, struct err *err)
{
	const struct image_layer *layer = &image->layers.at[x->layer];
	int fd = layer->qcow2 ? qcow2_fd(layer->qcow2) : layer->fd;
	struct stat st;

	for (uint64_t done = 0; done < x->length;) {
		ssize_t n = pread(fd, buf + done, x->length - done, x->offset + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, EIO, "cannot read %s", layer->path);
		done += n;
		if (n > 0)
			continue;
		/* The end of the file. Within its last cluster, or sector, the rest is
		 * zero; a cluster that would begin behind it was lost. */
		if (fstat(fd, &st) < 0 || tail_is_lost(layer, x, st.st_size))
			return err_set(err, EIO, "%s is cut off: data of it are missing", layer->path);
		memset(buf + done, 0, x->length - done);
		break;
	}
	return 0;
}

ssize_t image_read(struct image *image, void *buf, size_t length, uint64_t offset, struct err *err)
{
	size_t done = 0;

	if (offset >= image->size)
		return 0;
	if (length > image->size - offset)
		length = image->size - offset;
	while (done < length) {
		struct extent extents[32];
		size_t n;
		int r = image_extents(image, offset + done, length - done, extents, 32, &n, err);

		for (size_t i = 0; i < n && r >= 0; i++) {
			if (extents[i].kind == EXTENT_DATA)
				r = read_data(image, &extents[i], (char *)buf + done, err);
			else
				memset((char *)buf + done, 0, extents[i].length);
			done += extents[i].length;
		}
		if (r < 0)
			return r;
	}
	return done;
}
