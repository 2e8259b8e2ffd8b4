/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/mapping.h"

#include "common/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Address space is not endless: of 128 TiB a few hundred files of this size fit. */
#define LARGEST (256ULL << 30)

struct mapping {
	int fd;
	pthread_once_t once;
	const char *memory; /* NULL if it cannot be mapped */
	size_t size;
};

struct mapping *mapping_new(int fd)
{
	struct mapping *m = xnew(struct mapping);

	m->fd = fd;
	m->once = (pthread_once_t)PTHREAD_ONCE_INIT;
	return m;
}

void mapping_free(struct mapping *m)
{
	if (!m)
		return;
	if (m->memory)
		munmap((void *)m->memory, m->size);
	free(m);
}

/* pthread_once knows of no argument. */
static _Thread_local struct mapping *to_map;

static void map(void)
{
	struct mapping *m = to_map;
	struct stat st;
	void *memory;

	if (fstat(m->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0 ||
	    (uint64_t)st.st_size > LARGEST)
		return;
	memory = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, m->fd, 0);
	if (memory == MAP_FAILED)
		return;
	m->memory = memory;
	m->size = st.st_size;
}

const void *mapping_at(struct mapping *m, uint64_t at, size_t length)
{
	to_map = m;
	pthread_once(&m->once, map);
	if (!m->memory || at > m->size || length > m->size - at)
		return NULL;
	return m->memory + at;
}
