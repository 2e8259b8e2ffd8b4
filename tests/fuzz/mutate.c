/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How inputs of fuzz-chain are varied. libFuzzer's own ways know nothing of
 * segments: a byte more in one and all that comes behind it is lost. So mostly a
 * segment is picked, and something is done to it, or to one entry of a table in it:
 * what a damaged image differs in from a good one.
 */
#include "tests/fuzz/files.h"

#include <endian.h>
#include <string.h>

#define SEGMENTS_MAX 512
#define GROWTH 64 /* of one segment at a time, bytes */

size_t LLVMFuzzerMutate(uint8_t *input, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t size, size_t max_size, unsigned seed);

struct mutation {
	uint8_t *input;
	size_t size, max_size;
	struct segment segments[SEGMENTS_MAX];
	size_t n;
	uint64_t dice;
};

static uint64_t roll(struct mutation *m, uint64_t sides)
{
	m->dice = m->dice * 6364136223846793005ULL + 1442695040888963407ULL;
	return (m->dice >> 33) % sides;
}

static void find_segments(struct mutation *m)
{
	size_t at = 0;

	m->n = 0;
	while (m->n < SEGMENTS_MAX && segment_next(m->input, m->size, &at, &m->segments[m->n]))
		m->n++;
}

/* ---- an entry of a table ---- */

static uint64_t vary_word(struct mutation *m, uint64_t word, uint64_t other)
{
	switch (roll(m, 9)) {
	case 0:
		return word ^ 1ULL << 63; /* copied */
	case 1:
		return word ^ 1ULL << 62; /* compressed */
	case 2:
		return word ^ 1; /* zero */
	case 3:
		return word + (roll(m, 9) - 4) * 512;
	case 4:
		return word + ((roll(m, 2) ? 1ULL : -1ULL) << roll(m, 64));
	case 5:
		return other;
	case 6:
		return (word & ~0xffffffffULL) | (other & 0xffffffffULL);
	case 7:
		return roll(m, 2) ? 0 : UINT64_MAX >> roll(m, 64);
	default:
		return word ^ 1ULL << roll(m, 64);
	}
}

/* Entries are big-endian, and lie in the file on multiples of their size. */
static bool mutate_word(struct mutation *m, const struct segment *s)
{
	size_t skip = -s->at % 8, length = s->end - s->payload;
	uint64_t word, other;
	uint8_t *words;
	size_t n;

	if (s->kind != SEGMENT_BYTES || length < skip + 8)
		return false;
	words = m->input + s->payload + skip;
	n = (length - skip) / 8;
	words += roll(m, n) * 8;
	memcpy(&word, words, 8);
	memcpy(&other, m->input + s->payload + skip + roll(m, n) * 8, 8);
	word = htobe64(vary_word(m, be64toh(word), be64toh(other)));
	memcpy(words, &word, 8);
	return true;
}

/* ---- a segment ---- */

/* Puts `n` bytes in the place of [from, to). */
static bool replace(struct mutation *m, size_t from, size_t to, const uint8_t *bytes, size_t n)
{
	if (m->size - (to - from) + n > m->max_size)
		return false;
	memmove(m->input + from + n, m->input + to, m->size - to);
	memcpy(m->input + from, bytes, n);
	m->size += n - (to - from);
	return true;
}

static bool mutate_payload(struct mutation *m, struct segment *s)
{
	static uint8_t buf[UINT16_MAX];
	size_t n = s->end - s->payload, most = n + GROWTH < sizeof(buf) ? n + GROWTH : sizeof(buf);

	memcpy(buf, m->input + s->payload, n);
	n = LLVMFuzzerMutate(buf, n, most);
	if (!replace(m, s->payload, s->end, buf, n))
		return false;
	if (s->kind == SEGMENT_BYTES)
		s->length = n;
	segment_put_head(m->input + s->head, s);
	return true;
}

static bool mutate_head(struct mutation *m, struct segment *s)
{
	switch (roll(m, 4)) {
	case 0:
		s->file = roll(m, FILES);
		break;
	case 1:
		s->at += (roll(m, 2) ? 1ULL : -1ULL) << (9 + roll(m, 15));
		break;
	case 2:
		s->at += roll(m, 65) - 32;
		break;
	default:
		if (s->kind == SEGMENT_BYTES)
			return false;
		s->length = roll(m, 260);
	}
	segment_put_head(m->input + s->head, s);
	return true;
}

static bool copy_segment(struct mutation *m, const struct segment *s)
{
	static uint8_t buf[SEGMENT_HEAD + UINT16_MAX];
	struct segment copied = *s;
	size_t n = s->end - s->head;

	memcpy(buf, m->input + s->head, n);
	copied.file = roll(m, FILES);
	if (roll(m, 2))
		copied.at += roll(m, 64) << 9;
	segment_put_head(buf, &copied);
	return replace(m, m->size, m->size, buf, n);
}

/* One that makes something else of a file: its end, or a range full of a byte. */
static bool add_segment(struct mutation *m, const struct segment *near)
{
	uint8_t buf[SEGMENT_HEAD + 1] = { 0 };
	struct segment s = { .kind = roll(m, 2) ? SEGMENT_END : SEGMENT_FILL, .file = near->file,
			     .at = near->at + roll(m, 1025) - 512, .length = roll(m, 130) };

	segment_put_head(buf, &s);
	buf[SEGMENT_HEAD] = roll(m, 256);
	return replace(m, m->size, m->size, buf, SEGMENT_HEAD + (s.kind == SEGMENT_FILL));
}

static bool mutate_segment(struct mutation *m, struct segment *s)
{
	switch (roll(m, 20)) {
	case 0 ... 9:
		return mutate_word(m, s);
	case 10 ... 14:
		return mutate_payload(m, s);
	case 15 ... 16:
		return mutate_head(m, s);
	case 17:
		return copy_segment(m, s);
	case 18:
		return add_segment(m, s);
	default:
		return replace(m, s->head, s->end, m->input, 0);
	}
}

size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t size, size_t max_size, unsigned seed)
{
	static struct mutation m;
	bool done = false;

	m = (struct mutation){ .input = input, .size = size, .max_size = max_size,
			       .dice = seed * 0x9e3779b97f4a7c15ULL };
	for (int tries = 0; tries < 100 && !done && roll(&m, 50); tries++) {
		find_segments(&m);
		if (m.n)
			done = mutate_segment(&m, &m.segments[roll(&m, m.n)]);
		if (done && roll(&m, 3) == 0)
			done = false; /* once more */
	}
	return done ? m.size : LLVMFuzzerMutate(input, m.size, max_size);
}
