/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inode numbers. A number says by itself what it stands for: which row of the
 * table, of which VM, snapshot, disk. So they are the same after a remount and
 * nothing has to be remembered for the kernel. Ids are never used again,
 * therefore a number means one thing for ever.
 */
#ifndef KWS_FS_INODE_H
#define KWS_FS_INODE_H

#include <stdint.h>

/* The rows of the table. These are part of the inode numbers: add, never
 * renumber, at most 127. */
enum kind {
	KIND_ROOT = 0,
	KIND_VERSION = 1,
	KIND_SNAPSHOTS = 2,
	KIND_VM = 3,
	KIND_SNAPSHOT = 4,
	KIND_LATEST = 5,
	KIND_CURRENT = 6,
	KIND_KWS = 7,
	KIND_STATE = 8,
	KIND_STATUS = 9,
	KIND_LAST_ERROR = 10,
	KIND_QUIESCE = 11,
	KIND_DISK_RAW = 12,
	KIND_DOMAIN_XML = 13,
	KIND_INFO_JSON = 14,
	KIND_PARENT = 15,
	KIND_REVERT = 16,
	KIND_DESCRIPTION = 17,
	KIND_PIN = 18,
	KIND_DISK_QCOW2 = 19,
	KIND_BACKUP = 20,
	KIND_BACKUP_VM = 21,
	KIND_BACKUP_SNAPSHOT = 22,
	KIND_BACKUP_DISK = 23,
	KIND_PARTITION = 24,
	KIND_DISK_MAP = 25,
	KIND_CHECKSUMS = 26,
	KIND_JOBS = 27,
	KIND_JOB = 28,
	KIND_JOB_STATUS = 29,
	KIND_JOB_CANCEL = 30,
	KIND_MAX_DEPTH = 31,
	KIND_LOST_FOUND = 32,
	KIND_ORPHAN = 33,
	KIND_LOST_KWS = 34,
	KIND_LOST_LAST_ERROR = 35,
	KIND_FSCK = 36,
};

#define KIND_BITS 7
#define INDEX_BITS 13     /* a disk of a snapshot, and a partition of it: */
#define PARTITION_BITS 7  /* 127 partitions of 64 disks */
#define VM_BITS 18        /* 262,143 VMs ever seen */
#define SNAPSHOT_BITS 26

/* What an inode number stands for; what does not apply is 0. */
struct key {
	enum kind kind;
	uint32_t vm;
	uint32_t snapshot; /* or the job */
	uint32_t index; /* disk_index */
};

/* The number of a disk in its snapshot and of a partition in it, 0 for all of it. */
static inline uint32_t disk_index(uint32_t disk, uint32_t partition)
{
	return disk << PARTITION_BITS | partition;
}

static inline uint32_t index_disk(uint32_t index)
{
	return index >> PARTITION_BITS;
}

static inline uint32_t index_partition(uint32_t index)
{
	return index & ((1u << PARTITION_BITS) - 1);
}

/* The key of an orphan: its id takes the room of all the others. */
struct key orphan_key(uint64_t id);
uint64_t key_orphan(struct key key);

/* 0 if an id has become too large for its bits: such a thing is not shown. */
uint64_t key_to_ino(struct key key);

struct key ino_to_key(uint64_t ino);

#endif
