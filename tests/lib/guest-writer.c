/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs in the test guest and writes numbered blocks to its disks for ever, one
 * at a time, each to all disks before the next number, past the guest's cache.
 *
 * Number n goes to slot n % slots of a disk, slots being all of the disk, so
 * that it runs around and overwrites. What lies on a disk at any one moment is
 * therefore known from the highest number alone, and the highest numbers of two
 * disks differ by one at the most: test_guest.py checks a snapshot so. A
 * block is all of the same 64-bit words, made from n, so that a torn one shows.
 *
 * The console tells "written N" for what surely lies on the disks.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#define BLOCK 4096
#define TELL_EVERY 64

static uint64_t slots_of(int fd)
{
	uint64_t bytes;

	if (ioctl(fd, BLKGETSIZE64, &bytes)) {
		perror("BLKGETSIZE64");
		exit(1);
	}
	return bytes / BLOCK;
}

static void fill(uint64_t *block, uint64_t n)
{
	for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
		block[i] = n;
}

int main(int argc, char **argv)
{
	int fds[8], n_disks = 0;
	uint64_t *block;

	for (int i = 1; i < argc && n_disks < 8; i++) {
		fds[n_disks] = open(argv[i], O_RDWR | O_DIRECT);
		if (fds[n_disks] < 0) {
			perror(argv[i]);
			return 1;
		}
		n_disks++;
	}
	if (posix_memalign((void **)&block, BLOCK, BLOCK))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("writing to %d disks\n", n_disks);
	for (uint64_t n = 1; n_disks > 0; n++) {
		fill(block, n);
		for (int i = 0; i < n_disks; i++) {
			if (pwrite(fds[i], block, BLOCK, n % slots_of(fds[i]) * BLOCK) != BLOCK) {
				perror("pwrite");
				return 1;
			}
		}
		if (n % TELL_EVERY == 0)
			printf("written %llu\n", (unsigned long long)n);
	}
	return 0;
}
