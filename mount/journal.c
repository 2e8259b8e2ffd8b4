/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines of the log with their fields, in the journal's own protocol. Each line begins
 * with what syslog would say of it, so that journalctl shows both alike.
 */
#define SD_JOURNAL_SUPPRESS_LOCATION /* that would be this file */

#include "mount/journal.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#define SOCKET "/run/systemd/journal/socket"

static bool send_line(int level, const char *line, const struct log_field *fields, size_t n)
{
	vec_of(struct iovec) parts = { 0 };
	int r;

	for (size_t i = 0; i < n + 4; i++) {
		char *text = i == 0 ? xasprintf("MESSAGE=%s", line) :
			     i == 1 ? xasprintf("PRIORITY=%d", level) :
			     i == 2 ? xstrdup("SYSLOG_IDENTIFIER=kwsfs") :
			     i == 3 ? xasprintf("SYSLOG_FACILITY=%d", LOG_FAC(LOG_DAEMON)) :
			     fields[i - 4].value ? xasprintf("%s=%s", fields[i - 4].name,
							     fields[i - 4].value) : NULL;

		if (text)
			vec_push(&parts, ((struct iovec){ text, strlen(text) }));
	}
	r = sd_journal_sendv(parts.at, parts.n);
	for (size_t i = 0; i < parts.n; i++)
		free(parts.at[i].iov_base);
	vec_free(&parts);
	return r >= 0;
}

/* As sd-daemon(3) and systemd.exec(5) have it: the variable names the stream by device and
 * inode, because stderr may have been led elsewhere since it was set. */
static bool is_the_journals(int fd)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && fstat(fd, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

static bool is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

void journal_use(enum log_target target)
{
	bool is_kept = target == LOG_TO_SYSLOG || is_the_journals(STDERR_FILENO);

	if (is_kept && is_socket(SOCKET))
		log_to(send_line);
}
