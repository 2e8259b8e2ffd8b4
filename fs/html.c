/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/html.h"

#include "common/utf8.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

static const char *entity(uint32_t c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	}
	return NULL;
}

static bool between(uint32_t c, uint32_t first, uint32_t last)
{
	return c >= first && c <= last;
}

/* What would not be seen, or make something else seen: controls, embeddings, overrides and
 * isolates of direction, ends of lines, tags, and what is no character. */
static bool is_unseen(uint32_t c)
{
	return c < 0x20 || between(c, 0x7f, 0x9f) || between(c, 0x2028, 0x202e) ||
	       between(c, 0x2066, 0x2069) || c == 0xfeff || between(c, 0xfdd0, 0xfdef) ||
	       between(c, 0xfff9, 0xfffb) || (c & 0xfffe) == 0xfffe ||
	       between(c, 0xe0000, 0xe007f);
}

static void put_char(const char *s, size_t length, uint32_t c, FILE *out)
{
	const char *escaped = entity(c);

	if (escaped)
		fputs(escaped, out);
	else if (is_unseen(c))
		fprintf(out, "[U+%04" PRIX32 "]", c);
	else
		fwrite(s, 1, length, out);
}

void html_text_cut(const char *s, size_t max, FILE *out)
{
	for (size_t n = 0; *s; n++) {
		uint32_t c = 0;
		size_t length = utf8_next(s, SIZE_MAX, &c);

		if (n == max) {
			fputs("…", out);
			return;
		}
		if (length)
			put_char(s, length, c, out);
		else
			fputs("\xef\xbf\xbd", out);
		s += length ?: 1;
	}
}

void html_text(const char *s, FILE *out)
{
	html_text_cut(s, SIZE_MAX, out);
}
