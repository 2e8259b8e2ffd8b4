/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The partitions of a disk: what libblkid finds, GPT, MBR with logical ones, and others. */
#ifndef KWS_ENGINE_PARTITIONS_H
#define KWS_ENGINE_PARTITIONS_H

#include "engine/chain.h"

struct partition {
	unsigned number;        /* as Linux counts them, from 1 */
	uint64_t start, length; /* in the disk, bytes; within its size */
};

/* Those that hold data themselves, so no extended ones, in the order of the table;
 * none if there is no table. The caller frees *ret. */
int partitions_find(struct image *image, struct partition **ret, size_t *ret_n, struct err *err);

#endif
