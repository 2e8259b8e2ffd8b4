/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static enum log_target log_target = LOG_TO_STDERR;
static int log_level = LOG_INFO;
static bool log_to_journal;
static log_sink *sink;

void log_open(enum log_target target, int level)
{
	log_target = target;
	log_level = level;
	log_to_journal = getenv("JOURNAL_STREAM") != NULL;
	if (target == LOG_TO_SYSLOG)
		openlog("kwsfs", LOG_PID, LOG_DAEMON);
}

void log_to(log_sink *s)
{
	sink = s;
}

static void log_line(int level, const struct log_field *fields, size_t n, const char *fmt,
		     va_list ap)
{
	char line[2048];

	if (level > log_level)
		return;
	vsnprintf(line, sizeof(line), fmt, ap);
	if (sink && sink(level, line, fields, n))
		return;
	if (log_target == LOG_TO_SYSLOG)
		syslog(level, "%s", line);
	else if (log_to_journal)
		fprintf(stderr, "<%d>%s\n", level, line); /* see sd-daemon(3) */
	else
		fprintf(stderr, "kwsfs: %s\n", line);
}

void log_at(int level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, NULL, 0, fmt, ap);
	va_end(ap);
}

void log_fields(int level, const struct log_field *fields, size_t n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, fields, n, fmt, ap);
	va_end(ap);
}
