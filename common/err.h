/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors. Every function that can fail returns 0 or a negative errno and takes
 * a `struct err *` as its last argument, which then holds one plain sentence
 * for the person who asked. The object is a plain value: put it on the stack
 * with ERR_INIT, nothing has to be freed. NULL is allowed where the caller
 * wants the number only.
 */
#ifndef KWS_COMMON_ERR_H
#define KWS_COMMON_ERR_H

#include <stdarg.h>

#define ERR_MSG_MAX 1024

struct err {
	int code;              /* a positive errno, 0 if nothing failed */
	char msg[ERR_MSG_MAX]; /* UTF-8, no newline, cut if too long */
};

#define ERR_INIT { .code = 0, .msg = "" }

/* Sets code (a positive errno) and message; returns -code. */
int err_set(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Sets the message and appends ": " and strerror(code); returns -code. */
int err_sys(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message that is there; returns -err->code.
 * With err == NULL it returns -EIO, so hand the number up by yourself then. */
int err_wrap(struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
