/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of the daemon: one line per event, to stderr (with systemd's level
 * prefixes when it is a journal stream) or to syslog. Only fs and mount log
 * above debug; the engine hands its errors up instead.
 */
#ifndef KWS_COMMON_LOG_H
#define KWS_COMMON_LOG_H

#include <stdbool.h>
#include <syslog.h>

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG };

/* Call once, before there are threads. `level` is a syslog level (LOG_INFO). */
void log_open(enum log_target target, int level);

void log_at(int level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_at(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
