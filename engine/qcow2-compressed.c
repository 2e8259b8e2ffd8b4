/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters. An entry holds where the data begin, to the byte, and how
 * many sectors of 512 bytes they go on for; where in the last one they end is
 * known by the decompressor alone.
 */
#include "engine/qcow2.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define SECTOR 512
#define QCOW2_WINDOW_BITS (-12) /* raw deflate, as QEMU writes it */

static int damaged(const char *what, struct err *err)
{
	return err_set(err, EIO, "a compressed cluster %s", what);
}

/* The file may end within the last sector: the rest is no part of the data. */
static int read_up_to(int fd, char *buf, size_t size, uint64_t at, size_t *ret, struct err *err)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, buf + done, size - done, at + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return damaged("cannot be read", err);
		if (n == 0)
			break;
		done += n;
	}
	if (done == 0)
		return damaged("is cut off", err);
	*ret = done;
	return 0;
}

static int unzip_zlib(char *from, size_t size, void *to, size_t wanted, struct err *err)
{
	z_stream stream = { .next_in = (Bytef *)from, .avail_in = size, .next_out = to,
			    .avail_out = wanted };

	if (inflateInit2(&stream, QCOW2_WINDOW_BITS) != Z_OK)
		return err_set(err, ENOMEM, "no memory to decompress a cluster");
	inflate(&stream, Z_FINISH);
	inflateEnd(&stream);
	return stream.avail_out == 0 ? 0 : damaged("is damaged", err);
}

static int unzip_zstd(const char *from, size_t size, void *to, size_t wanted, struct err *err)
{
	ZSTD_inBuffer in = { from, size, 0 };
	ZSTD_outBuffer out = { to, wanted, 0 };
	ZSTD_DCtx *context = ZSTD_createDCtx();
	size_t left = 1;

	if (!context)
		return err_set(err, ENOMEM, "no memory to decompress a cluster");
	while (out.pos < out.size && in.pos < in.size && left != 0 && !ZSTD_isError(left))
		left = ZSTD_decompressStream(context, &out, &in);
	ZSTD_freeDCtx(context);
	return out.pos == out.size && !ZSTD_isError(left) ? 0 : damaged("is damaged", err);
}

int qcow2_decompress(const struct qcow2 *q, uint64_t entry, void *buf, struct err *err)
{
	const struct qcow2_header *h = qcow2_header(q);
	unsigned offset_bits = 62 - (h->cluster_bits - 8);
	uint64_t at = entry & ((1ULL << offset_bits) - 1);
	uint64_t sectors = (entry & ((1ULL << 62) - 1)) >> offset_bits;
	size_t size = (sectors + 1) * SECTOR - at % SECTOR;
	cleanup_free char *packed = malloc(size);
	int r;

	if (!packed)
		return err_set(err, ENOMEM, "no memory to decompress a cluster");
	r = read_up_to(qcow2_fd(q), packed, size, at, &size, err);
	if (r < 0)
		return r;
	if (h->compression == QCOW2_ZSTD)
		return unzip_zstd(packed, size, buf, qcow2_cluster_size(q), err);
	return unzip_zlib(packed, size, buf, qcow2_cluster_size(q), err);
}
