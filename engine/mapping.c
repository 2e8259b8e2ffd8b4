/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/mapping.h"

#include "common/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* Address space is not endless: of 128 TiB a few hundred files of this size fit. */
#define LARGEST (256ULL << 30)

#define PAGE 4096
#define PART_BITS 21 /* log2 of the bytes that are made ready at once */
#define PART (1u << PART_BITS)

/* How often a part was asked for; it is tried to make it ready now and then. */
#define READY 255
static bool is_time(uint8_t times)
{
	return times == 4 || times == 16 || times == 64;
}

struct mapping {
	int fd;
	pthread_once_t once;
	const char *memory; /* NULL if it cannot be mapped */
	size_t size;
	uint8_t *times;     /* that each part was asked for, or READY; atomic */
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
	free(m->times);
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
	m->times = xcalloc((st.st_size + PART - 1) / PART, sizeof(*m->times));
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

static bool is_cached(const char *start, size_t length)
{
	unsigned char in_core[PART / PAGE];
	size_t pages = (length + PAGE - 1) / PAGE;

	if (mincore((void *)start, length, in_core) < 0)
		return false;
	for (size_t i = 0; i < pages; i++)
		if (!(in_core[i] & 1))
			return false;
	return true;
}

static bool is_part_ready(struct mapping *m, uint64_t part)
{
	uint64_t start = part << PART_BITS;
	size_t length = m->size - start < PART ? m->size - start : PART;
	uint8_t before = __atomic_load_n(&m->times[part], __ATOMIC_RELAXED);
	uint8_t times = before + 1 < READY ? before + 1 : before;

	if (before == READY)
		return true;
	if (is_time(times) && is_cached(m->memory + start, length) &&
	    madvise((void *)(m->memory + start), length, MADV_POPULATE_READ) == 0)
		times = READY;
	/* Another reader may have counted on meanwhile: that counts as well as this. */
	__atomic_compare_exchange_n(&m->times[part], &before, times, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
	return times == READY;
}

bool mapping_is_ready(struct mapping *m, uint64_t at, size_t length)
{
	uint64_t last = (at + length - 1) >> PART_BITS;

	for (uint64_t part = at >> PART_BITS; part <= last; part++)
		if (!is_part_ready(m, part))
			return false;
	return true;
}
