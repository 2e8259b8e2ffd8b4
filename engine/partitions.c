/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libblkid wants a file. It gets one in memory, as large as the disk and empty but
 * for the places where tables lie: the beginning, the end (GPT keeps a second copy
 * there), and the sectors that an MBR's logical partitions are chained by.
 */
#include "engine/partitions.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define SECTOR 512
#define EDGE (UINT64_C(1) << 20) /* of the disk, at each end */
#define MOST_PARTITIONS 127      /* what an inode number has room for */

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int copy_part(struct image *image, int fd, uint64_t at, uint64_t length, struct err *err)
{
	cleanup_free char *buf = xcalloc(1, length);
	ssize_t n = image_read(image, buf, length, at, err);

	if (n < 0)
		return n;
	return pwrite(fd, buf, n, at) == n ? 0 : err_sys(err, errno, "cannot copy a partition table");
}

static uint32_t le32_at(const uint8_t *p)
{
	return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The first sector of the extended partition that a boot record names, 0 if none. */
static uint64_t extended_of(const uint8_t *record)
{
	for (const uint8_t *entry = record + 446; entry < record + 510; entry += 16)
		if (entry[4] == 0x05 || entry[4] == 0x0f || entry[4] == 0x85)
			return le32_at(entry + 8);
	return 0;
}

/* Each logical partition has a boot record of its own, which names the next one,
 * counted from the first. */
static int copy_logical(struct image *image, int fd, struct err *err)
{
	uint8_t record[SECTOR];
	uint64_t first = 0, at = 0;

	for (int i = 0; i <= MOST_PARTITIONS; i++) {
		uint64_t next;
		ssize_t n = image_read(image, record, SECTOR, at * SECTOR, err);
		int r;

		if (n < 0)
			return n;
		if (n != SECTOR || record[510] != 0x55 || record[511] != 0xaa)
			return 0;
		r = copy_part(image, fd, at * SECTOR, SECTOR, err);
		next = extended_of(record);
		if (r < 0 || next == 0)
			return r;
		at = first + next;
		if (first == 0)
			first = at;
	}
	return 0;
}

static int copy_tables(struct image *image, struct err *err)
{
	cleanup_close int fd = memfd_create("partition-table", MFD_CLOEXEC);
	uint64_t size = image_size(image);
	int r;

	if (fd < 0 || ftruncate(fd, size) < 0)
		return err_sys(err, errno, "cannot make a file in memory");
	r = copy_part(image, fd, 0, min(EDGE, size), err);
	if (r >= 0 && size > EDGE)
		r = copy_part(image, fd, size - EDGE, EDGE, err);
	if (r >= 0)
		r = copy_logical(image, fd, err);
	return r < 0 ? r : steal_fd(&fd);
}

static void probe_p(blkid_probe *probe)
{
	if (*probe)
		blkid_free_probe(*probe);
}

/* The probe's list of partitions; NULL if there is no table. */
static blkid_partlist list_of(blkid_probe probe, int fd, uint64_t size)
{
	if (blkid_probe_set_device(probe, fd, 0, size) != 0)
		return NULL;
	blkid_probe_enable_superblocks(probe, 0);
	blkid_probe_enable_partitions(probe, 1);
	return blkid_probe_get_partitions(probe);
}

int partitions_find(struct image *image, struct partition **ret, size_t *ret_n, struct err *err)
{
	cleanup(probe_p) blkid_probe probe = blkid_new_probe();
	vec_of(struct partition) found = { 0 };
	uint64_t size = image_size(image);
	cleanup_close int fd = -1;
	blkid_partlist list;
	int n;

	if (!probe)
		return err_set(err, ENOMEM, "no memory to look for partitions");
	fd = copy_tables(image, err);
	if (fd < 0)
		return fd;
	list = list_of(probe, fd, size);
	n = list ? blkid_partlist_numof_partitions(list) : 0;
	for (int i = 0; i < n && found.n < MOST_PARTITIONS; i++) {
		blkid_partition p = blkid_partlist_get_partition(list, i);
		uint64_t start = (uint64_t)blkid_partition_get_start(p) * SECTOR;
		int number = blkid_partition_get_partno(p);

		if (blkid_partition_is_extended(p) || start >= size || number < 1 ||
		    number > MOST_PARTITIONS)
			continue;
		vec_push(&found, ((struct partition){
			number, start,
			min((uint64_t)blkid_partition_get_size(p) * SECTOR, size - start) }));
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}
