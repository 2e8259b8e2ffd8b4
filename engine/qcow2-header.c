/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header of a qcow2 file, and the extensions behind it. Parsing is apart
 * from judging: whoever only wants to know what lies under a layer must not
 * fail because the layer has a feature that the reader cannot read.
 *
 * While we read, QEMU may write another backing file name into the header in
 * place (block commit does). So the header is read twice, until it reads the
 * same: a name that is half the old and half the new one is never used.
 */
#include "engine/qcow2.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0x514649fbu /* "QFI\xfb" */

/* Offsets of the fields, see the specification. */
enum {
	AT_MAGIC = 0, AT_VERSION = 4, AT_BACKING_OFFSET = 8, AT_BACKING_SIZE = 16,
	AT_CLUSTER_BITS = 20, AT_SIZE = 24, AT_CRYPT = 32, AT_L1_ENTRIES = 36, AT_L1_OFFSET = 40,
	AT_SNAPSHOTS = 60, V2_LENGTH = 72, AT_INCOMPATIBLE = 72, AT_COMPATIBLE = 80,
	AT_AUTOCLEAR = 88, AT_REFCOUNT_ORDER = 96, AT_HEADER_LENGTH = 100, AT_COMPRESSION = 104,
};

enum {
	EXT_END = 0,
	EXT_BACKING_FORMAT = 0xe2792acau,
	EXT_FEATURE_NAMES = 0x6803f857u,
	EXT_DATA_FILE = 0x44415441u,
};

#define SECTOR 512
#define BACKING_NAME_MAX 1023
#define L1_BYTES_MAX (32u << 20) /* as QEMU has it */
#define HEADER_BYTES_MAX 65536   /* header, extensions, backing file name: all that we look at */
#define HEADER_BYTES_MOST 4096   /* ... of most images */

static uint32_t be32_at(const uint8_t *p, size_t at)
{
	uint32_t v;

	memcpy(&v, p + at, sizeof(v));
	return be32toh(v);
}

static uint64_t be64_at(const uint8_t *p, size_t at)
{
	uint64_t v;

	memcpy(&v, p + at, sizeof(v));
	return be64toh(v);
}

void qcow2_header_free(struct qcow2_header *h)
{
	if (!h)
		return;
	free(h->backing_file);
	free(h->backing_format);
	free(h->data_file);
	free(h->unknown_feature);
	free(h);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? streq(a, b) : a == b;
}

bool qcow2_header_equal(const struct qcow2_header *a, const struct qcow2_header *b)
{
	return a->version == b->version && a->cluster_bits == b->cluster_bits &&
	       a->size == b->size && a->l1_entries == b->l1_entries &&
	       a->l1_offset == b->l1_offset && a->snapshots == b->snapshots &&
	       a->incompatible == b->incompatible && a->compatible == b->compatible &&
	       a->autoclear == b->autoclear && a->encryption == b->encryption &&
	       a->compression == b->compression &&
	       same_text(a->backing_file, b->backing_file) &&
	       same_text(a->backing_format, b->backing_format) &&
	       same_text(a->data_file, b->data_file) &&
	       same_text(a->unknown_feature, b->unknown_feature);
}

static char *text_at(const uint8_t *buf, size_t at, size_t length)
{
	char *s = xcalloc(length + 1, 1);

	memcpy(s, buf + at, length);
	return s;
}

/* ---- extensions ---- */

/* The feature's name for a set bit that we do not know, for the message. */
static void note_feature_name(struct qcow2_header *h, const uint8_t *table, size_t length)
{
	enum { ENTRY = 48, INCOMPATIBLE_TYPE = 0 };

	for (size_t at = 0; at + ENTRY <= length; at += ENTRY) {
		uint64_t bit = table[at + 1] < 64 ? 1ULL << table[at + 1] : 0;

		if (table[at] == INCOMPATIBLE_TYPE && (h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN & bit)) {
			free(h->unknown_feature);
			h->unknown_feature = text_at(table, at + 2, strnlen((const char *)table + at + 2,
									    ENTRY - 2));
		}
	}
}

/* -EAGAIN, without a message, where more of the file is needed to tell. */
static int parse_extensions(struct qcow2_header *h, const uint8_t *buf, size_t at, size_t end,
			    bool whole, const char *name, struct err *err)
{
	while (at + 8 <= end) {
		uint32_t type = be32_at(buf, at), length = be32_at(buf, at + 4);

		at += 8;
		if (type == EXT_END)
			return 0;
		if (length > end - at && !whole)
			return -EAGAIN;
		if (length > end - at)
			return err_set(err, EINVAL, "%s: a header extension is longer than the "
				       "header", name);
		if (type == EXT_BACKING_FORMAT) {
			free(h->backing_format);
			h->backing_format = text_at(buf, at, length);
		} else if (type == EXT_DATA_FILE) {
			free(h->data_file);
			h->data_file = text_at(buf, at, length);
		} else if (type == EXT_FEATURE_NAMES) {
			note_feature_name(h, buf + at, length);
		}
		at += (length + 7) & ~7u;
	}
	return whole ? 0 : -EAGAIN;
}

/* ---- the header ---- */

#define EXTENDED_CLUSTER_BITS_MIN 14

static int check_sizes(const struct qcow2_header *h, const char *name, struct err *err)
{
	uint64_t cluster = 1ULL << h->cluster_bits;
	uint64_t per_table = cluster / 8 / (h->incompatible & QCOW2_EXTENDED_L2 ? 2 : 1);

	if (h->size > INT64_MAX - cluster)
		return err_set(err, EINVAL, "%s: its size is beyond what a file can have", name);
	if ((h->incompatible & QCOW2_EXTENDED_L2) && h->cluster_bits < EXTENDED_CLUSTER_BITS_MIN)
		return err_set(err, EINVAL, "%s: its clusters are too small to have sub-clusters",
			       name);
	if ((h->compression != QCOW2_ZLIB) != !!(h->incompatible & QCOW2_COMPRESSION))
		return err_set(err, EINVAL, "%s: the header contradicts itself", name);
	if ((uint64_t)h->l1_entries * 8 > L1_BYTES_MAX)
		return err_set(err, EINVAL, "%s: its L1 table is larger than QEMU allows", name);
	if (h->l1_entries < (h->size + cluster * per_table - 1) / (cluster * per_table))
		return err_set(err, EINVAL, "%s: its L1 table is too small for its size", name);
	if (h->l1_entries && (h->l1_offset == 0 || h->l1_offset % cluster))
		return err_set(err, EINVAL, "%s: its L1 table is not on a cluster", name);
	return 0;
}

static int parse_fields(struct qcow2_header *h, const uint8_t *buf, size_t size, const char *name,
			size_t *ret_length, struct err *err)
{
	uint32_t length = V2_LENGTH;

	if (size < V2_LENGTH || be32_at(buf, AT_MAGIC) != MAGIC)
		return err_set(err, EINVAL, "%s is not a qcow2 image", name);
	h->version = be32_at(buf, AT_VERSION);
	if (h->version != 2 && h->version != 3)
		return err_set(err, EOPNOTSUPP, "%s: qcow2 version %u cannot be read", name,
			       h->version);
	h->cluster_bits = be32_at(buf, AT_CLUSTER_BITS);
	if (h->cluster_bits < 9 || h->cluster_bits > 21)
		return err_set(err, EINVAL, "%s: a cluster of 2^%u bytes is not allowed", name,
			       h->cluster_bits);
	/* QEMU counts sectors: no guest sees what lies past the last whole one. */
	h->size = be64_at(buf, AT_SIZE) / SECTOR * SECTOR;
	h->encryption = be32_at(buf, AT_CRYPT);
	h->l1_entries = be32_at(buf, AT_L1_ENTRIES);
	h->l1_offset = be64_at(buf, AT_L1_OFFSET);
	h->snapshots = be32_at(buf, AT_SNAPSHOTS);
	if (h->version == 3) {
		if (size < AT_COMPRESSION)
			return err_set(err, EINVAL, "%s: the header is cut off", name);
		h->incompatible = be64_at(buf, AT_INCOMPATIBLE);
		h->compatible = be64_at(buf, AT_COMPATIBLE);
		h->autoclear = be64_at(buf, AT_AUTOCLEAR);
		length = be32_at(buf, AT_HEADER_LENGTH);
		if (be32_at(buf, AT_REFCOUNT_ORDER) > 6 || length < AT_COMPRESSION ||
		    length > 1u << h->cluster_bits)
			return err_set(err, EINVAL, "%s: the header contradicts itself", name);
		if (length > AT_COMPRESSION && size > AT_COMPRESSION)
			h->compression = buf[AT_COMPRESSION];
	}
	h->dirty = h->incompatible & QCOW2_DIRTY;
	h->corrupt = h->incompatible & QCOW2_CORRUPT;
	*ret_length = length;
	return check_sizes(h, name, err);
}

/* `buf` is `size` bytes of the header, all of it if `whole`. */
static int parse(struct qcow2_header *h, const uint8_t *buf, size_t size, bool whole,
		 const char *name, struct err *err)
{
	size_t length = 0, end;
	uint64_t backing;
	uint32_t backing_size;
	int r;

	r = parse_fields(h, buf, size, name, &length, err);
	if (r < 0)
		return r;
	if (length > size)
		return whole ? err_set(err, EINVAL, "%s: the header is cut off", name) : -EAGAIN;
	backing = be64_at(buf, AT_BACKING_OFFSET);
	backing_size = be32_at(buf, AT_BACKING_SIZE);
	end = size;
	if (backing) {
		bool outside = backing > size || backing_size > size - backing;

		if (outside && !whole)
			return -EAGAIN;
		if (backing_size > BACKING_NAME_MAX || outside)
			return err_set(err, EINVAL, "%s: the backing file's name does not lie in "
				       "the header", name);
		h->backing_file = text_at(buf, backing, backing_size);
		end = backing;
		whole = true; /* the extensions end before the name */
	}
	return parse_extensions(h, buf, length, end, whole, name, err);
}

int qcow2_header_judge(const struct qcow2_header *h, const char *name, struct err *err)
{
	const char *what = NULL;

	if (h->encryption)
		what = "encryption";
	else if (h->compression != QCOW2_ZLIB && h->compression != QCOW2_ZSTD)
		what = "a compression other than zlib and zstd";
	else if (h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN)
		what = h->unknown_feature ?: "a feature that is not known here";
	if (!what)
		return 0;
	return err_set(err, EOPNOTSUPP, "%s uses %s, which cannot be read", name, what);
}

/* How much of what was read is header: at most the first cluster. */
static size_t header_bytes(const uint8_t *buf, size_t size)
{
	uint32_t bits = size >= V2_LENGTH ? be32_at(buf, AT_CLUSTER_BITS) : 0;
	size_t cluster = bits >= 9 && bits <= 16 ? 1u << bits : HEADER_BYTES_MAX;

	return size < cluster ? size : cluster;
}

static int read_stable(int fd, uint8_t *buf, uint8_t *again, size_t size, size_t *ret_size,
		       const char *name, struct err *err)
{
	for (int tries = 0; tries < 100; tries++) {
		ssize_t n = pread(fd, buf, size, 0), m = pread(fd, again, size, 0);

		if (n < 0 || m < 0)
			return err_sys(err, errno, "cannot read %s", name);
		*ret_size = header_bytes(buf, n);
		if (header_bytes(again, m) == *ret_size && memcmp(buf, again, *ret_size) == 0)
			return 0;
	}
	return err_set(err, EIO, "%s: its header does not stand still", name);
}

/* Reads and parses `size` bytes. -EAGAIN if that was not enough. */
static int try_read(int fd, const char *name, size_t size, struct qcow2_header **ret,
		    struct err *err)
{
	cleanup_free uint8_t *buf = malloc(size), *again = malloc(size);
	struct qcow2_header *h;
	size_t got = 0;
	int r;

	if (!buf || !again)
		return err_set(err, ENOMEM, "%s: out of memory", name);
	r = read_stable(fd, buf, again, size, &got, name, err);
	if (r < 0)
		return r;
	h = xnew(struct qcow2_header);
	r = parse(h, buf, got, got < size || size == HEADER_BYTES_MAX, name, err);
	if (r < 0) {
		qcow2_header_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

int qcow2_header_read(int fd, const char *name, struct qcow2_header **ret, struct err *err)
{
	int r = try_read(fd, name, HEADER_BYTES_MOST, ret, err);

	return r == -EAGAIN ? try_read(fd, name, HEADER_BYTES_MAX, ret, err) : r;
}
