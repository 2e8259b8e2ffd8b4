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
	uint8_t compression; /* of compressed clusters; 0 is zlib */
	char *backing_file;   /* as written in the header, NULL if there is none */
	char *backing_format; /* NULL if not named */
	char *unknown_feature; /* name of an incompatible one that nobody here knows, or NULL */
};

/* Incompatible features. */
#define QCOW2_DIRTY (1ULL << 0)       /* refcounts may be wrong: no matter for a reader */
#define QCOW2_CORRUPT (1ULL << 1)     /* something was found wrong: not what */
#define QCOW2_DATA_FILE (1ULL << 2)
#define QCOW2_COMPRESSION (1ULL << 3) /* another compression than zlib */
#define QCOW2_EXTENDED_L2 (1ULL << 4)
#define QCOW2_INCOMPATIBLE_KNOWN 0x1fULL

/* Reads and checks the header only; EINVAL if it is no qcow2. Fails for no
 * feature: see qcow2_header_judge. `name` is for messages. The caller frees
 * with qcow2_header_free. */
int qcow2_header_read(int fd, const char *name, struct qcow2_header **ret, struct err *err);
void qcow2_header_free(struct qcow2_header *h); /* NULL is allowed */

/* Whether images like this can be read: 0, or EOPNOTSUPP for encryption,
 * external data files, extended L2, unknown incompatible features: named. */
int qcow2_header_judge(const struct qcow2_header *h, const char *name, struct err *err);

/* Takes `fd` over, also on failure. */
int qcow2_open(int fd, const char *name, struct qcow2 **ret, struct err *err);
void qcow2_close(struct qcow2 *q); /* NULL is allowed */
const struct qcow2_header *qcow2_header(const struct qcow2 *q);
int qcow2_fd(const struct qcow2 *q);

enum qcow2_kind { QCOW2_UNALLOCATED, QCOW2_ZERO, QCOW2_DATA };

/* What the range that begins at `offset` is: its kind, how far it goes (at
 * least one byte, at most `length`), and for data where it lies in the file,
 * contiguously. May stop short of the real end of a run. -EIO if an entry
 * points where it cannot, -EOPNOTSUPP for a compressed cluster. Thread-safe. */
int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t length, enum qcow2_kind *ret_kind,
	      uint64_t *ret_length, uint64_t *ret_host_offset, struct err *err);

#endif
