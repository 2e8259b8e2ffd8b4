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
	KIND_KEEP_LAST = 40,
	KIND_KEEP_HOURLY = 41,
	KIND_KEEP_DAILY = 42,
	KIND_KEEP_WEEKLY = 43,
	KIND_KEEP_MONTHLY = 44,
	KIND_KEEP_YEARLY = 45,
	KIND_KEEP_WITHIN = 46,
	KIND_MAX_COUNT = 47,
	KIND_TTL = 48,
	KIND_MIN_FREE = 49,
	KIND_SCHEDULE = 50,
	KIND_SCHEDULE_NAME = 51,
	KIND_PRUNE_SCHEDULE = 52,
	/* The same for all VMs. */
	KIND_ALL_KEEP_LAST = 53,
	KIND_ALL_KEEP_HOURLY = 54,
	KIND_ALL_KEEP_DAILY = 55,
	KIND_ALL_KEEP_WEEKLY = 56,
	KIND_ALL_KEEP_MONTHLY = 57,
	KIND_ALL_KEEP_YEARLY = 58,
	KIND_ALL_KEEP_WITHIN = 59,
	KIND_ALL_MAX_COUNT = 60,
	KIND_ALL_TTL = 61,
	KIND_ALL_MIN_FREE = 62,
	KIND_ALL_MAX_DEPTH = 63,
	KIND_ALL_SCHEDULE = 64,
	KIND_ALL_SCHEDULE_NAME = 65,
	KIND_ALL_PRUNE_SCHEDULE = 66,
	KIND_ALL_KWS = 67,
	KIND_ALL_LAST_ERROR = 68,
	KIND_PRUNE = 69,
	KIND_EXPIRES = 70,
	KIND_RECOVERY = 71,
	KIND_RECOVERY_KWS = 72,
	KIND_RECOVERY_LAST_ERROR = 73,
	KIND_RECOVERY_VM = 74,
	KIND_WEIGHTS = 78,
	KIND_THRESHOLD = 79,
	KIND_FEATURES = 75,
	KIND_FEATURES_ASK = 76,
	KIND_METRICS = 80,
	KIND_EVENTS = 81,
	KIND_MEASURE = 82,
	KIND_RECOVERY_POLICY = 83,
	KIND_CANDIDATES = 84,
	KIND_RECOVER = 85,
	KIND_RECOVERY_AUTO = 86,
	KIND_RECOVERY_REPORT = 87,
	KIND_DASHBOARD = 90,
	KIND_GROUPS = 95,
	KIND_GROUP = 96,
	KIND_GROUP_MEMBER = 97,
	KIND_GROUP_SNAPSHOT = 98,
	KIND_GROUP_PART = 99,
	KIND_GROUP_KWS = 100,
	KIND_GROUP_LAST_ERROR = 101,
	KIND_GROUPS_KWS = 102,
	KIND_GROUPS_LAST_ERROR = 103,
	KIND_CLONES = 104,
	KIND_CLONE = 105,
	KIND_CLONE_STATE = 106,
	KIND_CLONE_VM = 107,
	KIND_CLONES_KWS = 108,
	KIND_CLONES_USER_DATA = 110,
	KIND_CLONES_META = 111,
	KIND_CLONE_PROMOTE = 114,
	KIND_POOLS = 115,
	KIND_POOL = 116,
	KIND_POOLS_KWS = 117,
	KIND_POOLS_LAST_ERROR = 118,
	KIND_SPARE = 119,
	KIND_SPARE_STATE = 120,
	KIND_SPARE_WAIT = 121,
	KIND_POOL_STATUS = 122,
};

#define KIND_BITS 7
#define INDEX_BITS 13     /* a disk of a snapshot, and a partition of it: */
#define PARTITION_BITS 7  /* 127 partitions of 64 disks */
#define VM_BITS 18        /* 262,143 VMs ever seen */
#define SNAPSHOT_BITS 26

/* What an inode number stands for; what does not apply is 0. */
struct key {
	enum kind kind;
	uint32_t vm;       /* or the group, or the pool */
	uint32_t snapshot; /* or the job, or the clone; of a group, its member or its snapshot */
	uint32_t index;    /* disk_index; of a group's snapshot, the number of the part */
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
