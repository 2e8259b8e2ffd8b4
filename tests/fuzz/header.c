/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzzes what is read of a header alone, and what it says that it lies on; the
 * input is the file. */
#include "engine/backing.h"
#include "engine/qcow2.h"
#include "tests/fuzz/must.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void check_fields(const struct qcow2_header *h)
{
	must(h->version == 2 || h->version == 3, "the version is one that can be read");
	must(h->cluster_bits >= 9 && h->cluster_bits <= 21, "the clusters are of some size");
	must(h->size % 512 == 0 && h->size <= INT64_MAX, "the size is whole sectors");
	must(h->version == 3 || !h->incompatible, "version 2 has no features");
}

static void check_backing(const struct qcow2_header *h)
{
	static char none;
	char *path = &none, *format = &none;
	struct err err = ERR_INIT;
	int r = backing_of(h, "/folder/top", &path, &format, &err);

	if (r < 0) {
		must_be_error(r, &err);
		must(path == &none && format == &none, "what is returned is untouched on failure");
		return;
	}
	must(!path || path[0] == '/', "a backing file is found by its absolute path");
	free(path);
	free(format);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	cleanup_close int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct qcow2_header *h = NULL;
	struct err err = ERR_INIT;
	int r;

	must(fd >= 0 && write(fd, input, size) == (ssize_t)size, "there is room for the file");
	r = qcow2_header_read(fd, "file", &h, &err);
	if (r < 0) {
		must_be_error(r, &err);
		must(!h, "what is returned is untouched on failure");
		return 0;
	}
	check_fields(h);
	r = qcow2_header_judge(h, "file", &err);
	if (r < 0)
		must_be_error(r, &err);
	check_backing(h);
	qcow2_header_free(h);
	return 0;
}
