/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/calendar.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/program.h"

#include <errno.h>

#define ANSWER_MAX 4096

/* All that it says, cut off at ANSWER_MAX. */
static void listen(struct program *p, char *ret)
{
	size_t n = 0;
	int r;

	while ((r = program_listen(p)) >= 0) {
		ssize_t got = r ? read(p->out, ret + n, ANSWER_MAX - 1 - n) : 0;

		if (r && got <= 0)
			break;
		n += got;
	}
	ret[n] = '\0';
}

/* "Sat 2026-11-21 20:00:00 UTC": in UTC is the last time that it says, whatever the zone. */
static int parse_answer(const char *answer, time_t *ret)
{
	const char *line = strstr(answer, "Next elapse: ");
	const char *utc = strstr(answer, "(in UTC): ");
	struct tm tm = { 0 };

	if (!line)
		return -EINVAL;
	line += strlen("Next elapse: ");
	if (strncmp(line, "never", 5) == 0) {
		*ret = CALENDAR_NEVER;
		return 0;
	}
	if (utc)
		line = utc + strlen("(in UTC): ");
	if (!strptime(line, "%a %Y-%m-%d %H:%M:%S", &tm))
		return -EINVAL;
	*ret = timegm(&tm);
	return 0;
}

int calendar_next(const char *expression, time_t base, time_t *ret, struct err *err)
{
	cleanup_free char *from = xasprintf("--base-time=@%lld", (long long)base);
	const char *const argv[] = { "systemd-analyze", "calendar", from, "--", expression, NULL };
	char answer[ANSWER_MAX];
	struct program p;
	int r = program_start(&p, argv, PROGRAM_OUT, err);

	if (r == -ENOENT)
		return err_set(err, EOPNOTSUPP, "calendar expressions need the program systemd-analyze, "
			       "which is not installed");
	if (r < 0)
		return r;
	listen(&p, answer);
	if (program_end(&p, NULL) < 0 || parse_answer(answer, ret) < 0)
		return err_set(err, EINVAL, "'%s' is no calendar expression as in systemd.time(7), for "
			       "example hourly or Mon..Fri 02:00", expression);
	return 0;
}
