/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One qcow2 file: its header and its map, and nothing of its backing file.
 * Written from QEMU's docs/interop/qcow2.txt, named there as the specification
 * below. All that is read from the file is checked before it is used.
 */
#ifndef KWS_ENGINE_QCOW2_H
#define KWS_ENGINE_QCOW2_H

#include "common/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2;

struct qcow2_header {
	unsigned version; /* 2 or 3 */
	unsigned cluster_bits;
	uint64_t size; /* virtual, bytes */
	uint32_t l1_entries;
	uint64_t l1_offset;
	uint32_t snapshots; /* internal ones */
	uint64_t incompatible, compatible, autoclear; /* feature bits, 0 in version 2 */
	bool dirty, corrupt; /* said of itself */
	uint32_t encryption; /* crypt method, 0 is none */
	uint8_t compression; /* of compressed clusters: enum qcow2_compression */
	char *backing_file;   /* as written in the header, NULL if there is none */
	char *backing_format; /* NULL if not named */
	char *data_file;      /* as written in the header, NULL if not named */
	char *unknown_feature; /* name of an incompatible one that nobody here knows, or NULL */
};

/* Incompatible features. */
#define QCOW2_DIRTY (1ULL << 0)       /* refcounts may be wrong: no matter for a reader */
#define QCOW2_CORRUPT (1ULL << 1)     /* something was found wrong: not what */
#define QCOW2_DATA_FILE (1ULL << 2)   /* data clusters lie in another file */
#define QCOW2_COMPRESSION (1ULL << 3) /* another compression than zlib */
#define QCOW2_EXTENDED_L2 (1ULL << 4) /* clusters of 32 sub-clusters */
#define QCOW2_INCOMPATIBLE_KNOWN 0x1fULL

enum qcow2_compression { QCOW2_ZLIB = 0, QCOW2_ZSTD = 1 };

/* Reads and checks the header only; EINVAL if it is no qcow2. Fails for no
 * feature: see qcow2_header_judge. `name` is for messages. The caller frees
 * with qcow2_header_free. */
int qcow2_header_read(int fd, const char *name, struct qcow2_header **ret, struct err *err);
void qcow2_header_free(struct qcow2_header *h); /* NULL is allowed */
bool qcow2_header_equal(const struct qcow2_header *a, const struct qcow2_header *b);

/* Whether images like this can be read: 0, or EOPNOTSUPP for encryption,
 * unknown compressions and unknown incompatible features: named. */
int qcow2_header_judge(const struct qcow2_header *h, const char *name, struct err *err);

/* Takes `fd` over, also on failure. Reads the header only. */
int qcow2_open(int fd, const char *name, struct qcow2 **ret, struct err *err);
void qcow2_close(struct qcow2 *q); /* NULL is allowed */
const struct qcow2_header *qcow2_header(const struct qcow2 *q);
int qcow2_fd(const struct qcow2 *q);
uint64_t qcow2_cluster_size(const struct qcow2 *q); /* bytes */

enum qcow2_kind {
	QCOW2_UNALLOCATED, /* what lies under it is seen */
	QCOW2_ZERO,
	QCOW2_DATA,
	QCOW2_COMPRESSED,  /* one cluster, or what was asked for of it */
	QCOW2_DAMAGED,     /* what the tables say cannot be */
};

/* A piece of the map; alike and adjacent ones are joined. */
struct qcow2_run {
	uint64_t start, length; /* in the image, bytes */
	enum qcow2_kind kind;
	/* DATA: where in the file that holds the data. COMPRESSED: the cluster's
	 * L2 entry, for qcow2_decompress. */
	uint64_t host;
	const char *damage; /* DAMAGED: what is wrong, static */
};

typedef void qcow2_run_fn(void *opaque, const struct qcow2_run *run);

/* Tells what [offset, offset + length) is, in order, with a look into the tables
 * as they are now. A table that cannot be read is damage of its range. Thread-safe. */
void qcow2_map(const struct qcow2 *q, uint64_t offset, uint64_t length, qcow2_run_fn *fn,
	       void *opaque);

/* How far from `offset` on nothing is allocated, as far as the L1 table alone tells:
 * cheap, and possibly too little. 0 if there is a table for `offset`. Looks no
 * farther than `limit` bytes, but may say more. */
uint64_t qcow2_empty_length(const struct qcow2 *q, uint64_t offset, uint64_t limit);

/* qcow2-compressed.c: reads a whole compressed cluster into `buf`. -EIO if it
 * is damaged. */
int qcow2_decompress(const struct qcow2 *q, uint64_t entry, void *buf, struct err *err);

#endif
