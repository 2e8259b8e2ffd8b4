/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The protocol is QMP, on the daemon's standard input and output: one JSON object in each
 * line, commands here, answers and events there. The job is asked for its state now and
 * then, and told to complete when it is ready; so no event has to be waited for.
 */
#include "engine/storage-daemon.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define JOB "commit"
#define ASK_EVERY_MS 5

struct session {
	struct program program;
	vec_of(char) line; /* what was read of the next one */
	struct json_object *answer; /* to the last command: its "return", NULL until it came */
	char *refused;     /* ... or its error's description */
	bool answered;
};

static void json_put(struct json_object **o)
{
	if (*o)
		json_object_put(*o);
}

#define cleanup_json cleanup(json_put)

static void session_clear(struct session *s)
{
	vec_free(&s->line);
	json_put(&s->answer);
	free(s->refused);
}

/* ---- what it says ---- */

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v) : NULL;
}

static uint64_t number_of(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

/* Greeting and events are passed over. */
static void take_line(struct session *s)
{
	cleanup_json struct json_object *o = NULL;
	struct json_object *v;

	vec_push(&s->line, '\0');
	o = json_tokener_parse(s->line.at);
	s->line.n = 0;
	if (json_object_object_get_ex(o, "return", &v)) {
		s->answer = json_object_get(v);
		s->answered = true;
	} else if (json_object_object_get_ex(o, "error", &v)) {
		s->refused = xstrdup(text_of(v, "desc") ?: "it does not say why");
		s->answered = true;
	}
}

static int read_some(struct session *s)
{
	char part[1024];
	ssize_t n = read(s->program.out, part, sizeof(part));

	if (n <= 0)
		return n < 0 && errno == EINTR ? 0 : -EPIPE;
	for (ssize_t i = 0; i < n; i++) {
		if (part[i] == '\n')
			take_line(s);
		else
			vec_push(&s->line, part[i]);
	}
	return 0;
}

/* Takes `arguments` over (NULL: none), waits for the answer. -EPIPE if it has ended:
 * program_end knows why. */
static int command(struct session *s, const char *name, struct json_object *arguments,
		   struct err *err)
{
	cleanup_json struct json_object *o = json_object_new_object();
	const char *text;
	int said, r = 0;

	json_object_object_add(o, "execute", json_object_new_string(name));
	if (arguments)
		json_object_object_add(o, "arguments", arguments);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	if (dprintf(s->program.in, "%s\n", text) < 0)
		return -EPIPE;
	json_put(&s->answer);
	s->answer = NULL;
	s->answered = false;
	while (r >= 0 && !s->answered) {
		said = program_listen(&s->program);
		r = said > 0 ? read_some(s) : said;
	}
	if (r < 0 || !s->refused)
		return r;
	return err_set(err, strstr(s->refused, "\" lock") ? EBUSY : EIO,
		       "qemu-storage-daemon: %s: %s", name, s->refused);
}

/* ---- the job ---- */

/* {"driver": "qcow2", "node-name": "top", "file": {"driver": "file", ...}} */
static struct json_object *describe(const struct layer_file *f, const char *name)
{
	struct json_object *node = json_object_new_object();
	struct json_object *file = json_object_new_object();

	struct stat st;
	bool device = stat(f->path, &st) == 0 && S_ISBLK(st.st_mode);

	json_object_object_add(file, "driver",
			       json_object_new_string(device ? "host_device" : "file"));
	json_object_object_add(file, "filename", json_object_new_string(f->path));
	json_object_object_add(node, "driver", json_object_new_string(f->format));
	json_object_object_add(node, "node-name", json_object_new_string(name));
	json_object_object_add(node, "file", file);
	return node;
}

static int start(struct session *s, const struct layer_file *top, const struct layer_file *base,
		 struct err *err)
{
	cleanup_json struct json_object *node = describe(top, "top");
	const char *argv[] = { "qemu-storage-daemon", "--blockdev", NULL, "--chardev", "stdio,id=qmp",
			       "--monitor", "chardev=qmp", NULL };

	json_object_object_add(node, "backing", describe(base, "base"));
	argv[2] = json_object_to_json_string_ext(node, JSON_C_TO_STRING_PLAIN);
	return program_start(&s->program, argv, PROGRAM_IN | PROGRAM_OUT | PROGRAM_BOUND, err);
}

static int start_job(struct session *s, struct err *err)
{
	struct json_object *arguments = json_object_new_object();
	int r = command(s, "qmp_capabilities", NULL, err);

	json_object_object_add(arguments, "job-id", json_object_new_string(JOB));
	json_object_object_add(arguments, "device", json_object_new_string("top"));
	json_object_object_add(arguments, "base-node", json_object_new_string("base"));
	json_object_object_add(arguments, "auto-dismiss", json_object_new_boolean(false));
	if (r >= 0)
		return command(s, "block-commit", arguments, err);
	json_object_put(arguments);
	return r;
}

static int tell_job(struct session *s, const char *what, struct err *err)
{
	struct json_object *arguments = json_object_new_object();

	json_object_object_add(arguments, "id", json_object_new_string(JOB));
	return command(s, what, arguments, err);
}

static int end_of_job(struct json_object *job, struct err *err)
{
	const char *why = text_of(job, "error");

	if (!why)
		return 0;
	return err_set(err, strstr(why, strerror(ENOSPC)) ? ENOSPC : EIO,
		       "qemu-storage-daemon: the commit failed: %s", why);
}

static void pause_between(void)
{
	struct timespec pause = { .tv_nsec = ASK_EVERY_MS * 1000000L };

	nanosleep(&pause, NULL);
}

static int follow(struct session *s, const struct watch *watch, struct err *err)
{
	bool completing = false;

	for (;;) {
		struct json_object *job;
		const char *status;
		int r = command(s, "query-jobs", NULL, err);

		if (r < 0)
			return r;
		job = json_object_array_get_idx(s->answer, 0);
		status = text_of(job, "status") ?: "";
		if (!strcmp(status, "concluded"))
			return end_of_job(job, err);
		r = watch->look(watch->opaque, number_of(job, "current-progress"),
				number_of(job, "total-progress"), err);
		if (r < 0) {
			(void)tell_job(s, "job-cancel", NULL);
			return r;
		}
		if (completing || strcmp(status, "ready") != 0) {
			pause_between();
			continue;
		}
		r = tell_job(s, "job-complete", err);
		if (r < 0)
			return r;
		completing = true;
	}
}

int storage_daemon_commit(const struct layer_file *top, const struct layer_file *base,
			  const struct watch *watch, struct err *err)
{
	cleanup(session_clear) struct session s = { 0 };
	struct err first = ERR_INIT;
	int ended, r = start(&s, top, base, err);

	if (r < 0)
		return r;
	r = start_job(&s, &first);
	if (r >= 0)
		r = follow(&s, watch, &first);
	/* Closing the files it writes what it still has in memory, also of a job that was
	 * canceled; `quit` cancels one that runs. */
	(void)command(&s, "quit", NULL, NULL);
	ended = program_end(&s.program, r == -EPIPE || r >= 0 ? err : NULL);
	if (r == -EPIPE)
		return ended < 0 ? ended : err_set(err, EIO, "qemu-storage-daemon ended too early");
	if (r < 0 && err)
		*err = first;
	return r < 0 ? r : ended;
}
