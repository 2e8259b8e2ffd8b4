/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/inode.h"

#define ROOT_INO 1 /* FUSE's; no key is packed into it, as the lowest bits are a snapshot's */

uint64_t key_to_ino(struct key key)
{
	if (key.kind == KIND_ROOT)
		return ROOT_INO;
	if (key.vm >> VM_BITS || key.snapshot >> SNAPSHOT_BITS || key.index >> INDEX_BITS)
		return 0;
	return (((uint64_t)key.kind << INDEX_BITS | key.index) << VM_BITS | key.vm)
		       << SNAPSHOT_BITS |
	       key.snapshot;
}

static uint32_t take_bits(uint64_t *ino, unsigned bits)
{
	uint32_t value = *ino & ((UINT64_C(1) << bits) - 1);

	*ino >>= bits;
	return value;
}

struct key ino_to_key(uint64_t ino)
{
	struct key key = { .kind = KIND_ROOT };

	if (ino == ROOT_INO)
		return key;
	key.snapshot = take_bits(&ino, SNAPSHOT_BITS);
	key.vm = take_bits(&ino, VM_BITS);
	key.index = take_bits(&ino, INDEX_BITS);
	key.kind = take_bits(&ino, KIND_BITS);
	return key;
}

struct key orphan_key(uint64_t id)
{
	struct key key = { .kind = KIND_ORPHAN };

	key.snapshot = take_bits(&id, SNAPSHOT_BITS);
	key.vm = take_bits(&id, VM_BITS);
	key.index = take_bits(&id, INDEX_BITS);
	return key;
}

uint64_t key_orphan(struct key key)
{
	return ((uint64_t)key.index << VM_BITS | key.vm) << SNAPSHOT_BITS | key.snapshot;
}
