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
 *
 * With `-first TTY` or `-second TTY` there are two guests, in step. The first one tells each
 * number to the second one when it is on its own disk, and goes on when that has it, too. So at
 * any one moment the first one's highest number is that of the second one, or one more.
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

static void tell(int tty, uint64_t n)
{
	if (write(tty, &n, sizeof(n)) != sizeof(n)) {
		perror("tty");
		exit(1);
	}
}

static void hear(int tty, uint64_t n)
{
	uint64_t heard = 0;

	for (size_t got = 0; got < sizeof(heard);) {
		ssize_t part = read(tty, (char *)&heard + got, sizeof(heard) - got);

		if (part <= 0) {
			perror("tty");
			exit(1);
		}
		got += part;
	}
	if (heard != n) {
		fprintf(stderr, "%llx came instead of %llx\n", (unsigned long long)heard,
			(unsigned long long)n);
		exit(1);
	}
}

static void fill(uint64_t *block, uint64_t n)
{
	for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
		block[i] = n;
}

int main(int argc, char **argv)
{
	int fds[8], n_disks = 0, tty = -1;
	int first = argc > 2 && strcmp(argv[1], "-first") == 0;
	int second = argc > 2 && strcmp(argv[1], "-second") == 0;
	uint64_t *block;

	if (first || second) {
		tty = open(argv[2], O_RDWR | O_NOCTTY);
		if (tty < 0) {
			perror(argv[2]);
			return 1;
		}
	}
	for (int i = first || second ? 3 : 1; i < argc && n_disks < 8; i++) {
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
		if (second)
			hear(tty, n);
		for (int i = 0; i < n_disks; i++) {
			if (pwrite(fds[i], block, BLOCK, n % slots_of(fds[i]) * BLOCK) != BLOCK) {
				perror("pwrite");
				return 1;
			}
		}
		if (first || second)
			tell(tty, n);
		if (first)
			hear(tty, n);
		if (n % TELL_EVERY == 0)
			printf("written %llu\n", (unsigned long long)n);
	}
	return 0;
}
