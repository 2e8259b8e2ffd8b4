/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static enum log_target log_target = LOG_TO_STDERR;
static int log_level = LOG_INFO;
static bool log_to_journal;

void log_open(enum log_target target, int level)
{
	log_target = target;
	log_level = level;
	log_to_journal = getenv("JOURNAL_STREAM") != NULL;
	if (target == LOG_TO_SYSLOG)
		openlog("kwsfs", LOG_PID, LOG_DAEMON);
}

void log_at(int level, const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	if (level > log_level)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);

	if (log_target == LOG_TO_SYSLOG)
		syslog(level, "%s", line);
	else if (log_to_journal)
		fprintf(stderr, "<%d>%s\n", level, line); /* see sd-daemon(3) */
	else
		fprintf(stderr, "kwsfs: %s\n", line);
}
