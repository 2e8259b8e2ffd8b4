/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- text ---- */

/* How many bytes the character at `s` has; 0 if it is no UTF-8, or no text. */
static size_t character(const unsigned char *s)
{
	static const unsigned smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 :
		   s[0] < 0xf8 ? 4 : 0;
	unsigned c = n > 1 ? s[0] & (0x7f >> n) : s[0];

	if (n <= 1)
		return c >= ' ' && c < 0x7f ? n : 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

/* A name in a message may be whatever a damaged header holds, and a message that
 * was cut may end within a character: what is not text becomes question marks. */
static void keep_text(struct err *err)
{
	for (char *s = err->msg; *s;) {
		size_t n = character((unsigned char *)s);

		if (n == 0)
			*s = '?';
		s += n ? n : 1;
	}
}

/* ---- errors ---- */

int err_set(struct err *err, int code, const char *fmt, ...)
{
	if (err) {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		keep_text(err);
		err->code = code;
	}
	return -code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	if (err) {
		va_list ap;
		size_t used;
		char buf[128];

		va_start(ap, fmt);
		vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
		va_end(ap);
		used = strlen(err->msg);
		snprintf(err->msg + used, sizeof(err->msg) - used, ": %s",
			 strerror_r(code, buf, sizeof(buf)));
		keep_text(err);
		err->code = code;
	}
	return -code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char inner[ERR_MSG_MAX];
	va_list ap;
	size_t used;

	if (!err)
		return -EIO;
	memcpy(inner, err->msg, sizeof(inner));
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	used = strlen(err->msg);
	/* A message that is too long is cut at its end, on purpose. */
	if (snprintf(err->msg + used, sizeof(err->msg) - used, ": %s", inner) < 0)
		err->msg[used] = '\0';
	keep_text(err);
	return -err->code;
}
