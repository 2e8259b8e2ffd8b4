/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of the daemon: one line per event, to stderr (with systemd's level
 * prefixes when it is a journal stream), to syslog, or to the sink that mount set. Only fs and mount log
 * above debug; the engine hands its errors up instead.
 */
#ifndef KWS_COMMON_LOG_H
#define KWS_COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG };

/* Call once, before there are threads. `level` is a syslog level (LOG_INFO). */
void log_open(enum log_target target, int level);

/* What a line is about, for who can keep that beside it. */
struct log_field {
	const char *name, *value;
};

/* Takes a line in the place of stderr or syslog; false if it could not. */
typedef bool log_sink(int level, const char *line, const struct log_field *fields, size_t n);

/* Call once, after log_open and before there are threads. */
void log_to(log_sink *sink);

/* As log_at, with fields. */
void log_fields(int level, const struct log_field *fields, size_t n, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

void log_at(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
