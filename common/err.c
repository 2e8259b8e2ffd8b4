/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/err.h"

#include "common/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- text ---- */

/* A name in a message may be whatever a damaged header holds, and a message that
 * was cut may end within a character: what is not text becomes question marks. */
static void keep_text(struct err *err)
{
	for (char *s = err->msg; *s;) {
		uint32_t c = 0;
		size_t n = utf8_next(s, SIZE_MAX, &c);

		if (n == 0 || c < ' ' || c == 0x7f) {
			*s = '?';
			n = 1;
		}
		s += n;
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
