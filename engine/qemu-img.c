/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/qemu-img.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int end(struct program *p, const char *command, struct err *err)
{
	int r = program_end(p, err);

	return r < 0 ? err_wrap(err, "qemu-img %s", command) : 0;
}

static int run(const char *const argv[], struct err *err)
{
	struct program p;
	int r = program_start(&p, argv, 0, err);

	return r < 0 ? r : end(&p, argv[1], err);
}

/* With -p it says "    (12.34/100%)\r" now and then. */
static double read_percents(struct program *p)
{
	char text[256];
	ssize_t n = read(p->out, text, sizeof(text) - 1);
	char *open;

	if (n <= 0)
		return -1;
	text[n] = '\0';
	open = strrchr(text, '(');
	return open ? strtod(open + 1, NULL) : -1;
}

/* One that takes long. `total` bytes are what it is going to move. */
static int run_watched(const char *const argv[], uint64_t total, const struct watch *watch,
		       struct err *err)
{
	struct program p;
	uint64_t done = 0;
	int said, r = program_start(&p, argv, PROGRAM_OUT | PROGRAM_BOUND, err);

	if (r < 0)
		return r;
	while ((said = program_listen(&p)) != -EPIPE) {
		double percents = said > 0 ? read_percents(&p) : -1;

		if (percents >= 0)
			done = total * (percents / 100);
		r = watch->look(watch->opaque, done, total, err);
		if (r < 0) {
			program_kill(&p);
			return r;
		}
	}
	return end(&p, argv[1], err);
}

int qemu_img_overlay(const char *path, const char *backing, const char *backing_format,
		     uint64_t size, const char *options, struct err *err)
{
	cleanup_free char *bytes = xasprintf("%llu", (unsigned long long)size);
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-o", options,
			 "-b", backing, "-F", backing_format,
			 path, bytes, NULL };

	return run(argv, err);
}

int qemu_img_create(const char *path, uint64_t size, const char *options, struct err *err)
{
	cleanup_free char *bytes = xasprintf("%llu", (unsigned long long)size);
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, bytes,
			 NULL };

	return run(argv, err);
}

int qemu_img_convert(const char *from, const char *format, const char *to, uint64_t total,
		     const struct watch *watch, struct err *err)
{
	const char *argv[] = { "qemu-img", "convert", "-p", "-n", "--target-is-zero", "-f", format,
			 "-O", "qcow2", from, to, NULL };

	return run_watched(argv, total, watch, err);
}

int qemu_img_try_options(const char *path, const char *options, struct err *err)
{
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "1M",
			 NULL };
	int r = run(argv, err);

	unlink(path);
	return r;
}

int qemu_img_rebase(const char *path, const char *format, const char *backing,
		    const char *backing_format, uint64_t total, const struct watch *watch,
		    struct err *err)
{
	const char *alone[] = { "qemu-img", "rebase", "-p", "-f", format, "-b", "", path, NULL };
	const char *argv[] = { "qemu-img", "rebase", "-p", "-f", format, "-b", backing,
			 "-F", backing_format, path, NULL };

	return run_watched(backing ? argv : alone, total, watch, err);
}

int qemu_img_repair_leaks(const char *path, const char *format, struct err *err)
{
	const char *argv[] = { "qemu-img", "check", "-q", "-r", "leaks", "-f", format, path, NULL };

	return run(argv, err);
}

int qemu_img_rebase_unsafe(const char *path, const char *format, const char *backing,
			   const char *backing_format, struct err *err)
{
	const char *argv[] = { "qemu-img", "rebase", "-q", "-u", "-f", format,
			 "-b", backing, "-F", backing_format, path, NULL };

	return run(argv, err);
}
