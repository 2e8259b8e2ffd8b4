/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens, told twice: a line of the log, and a line of JSON in the file `events`.
 *
 * That file is like a log that grows, whose readers begin when they open it. It has no
 * positions (nonseekable); the end of the file is "nothing new yet", and poll(2) says
 * when there is. Its size is that of all lines that ever were, because `tail -f`, which
 * does not trust inotify on FUSE, reads as soon as a file has grown and no more than that.
 */
#include "fs/core.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/event-ring.h"
#include "fs/text.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>

#define HELD (1u << 20) /* bytes, for readers that are slow */

struct events {
	pthread_mutex_t lock; /* of all below, and of each event_file */
	struct ring *ring;
	vec_of(struct event_file *) open;
};

struct event_file {
	struct file file;
	struct ring_reader reader;
	struct fuse_pollhandle *ph; /* somebody waits; or NULL */
};

/* ---- lines ---- */

static void add(struct json_object *to, const char *key, const char *text)
{
	if (text)
		json_object_object_add(to, key, json_object_new_string(text));
}

static void add_time(struct json_object *to, const struct timespec *t)
{
	cleanup_free char *text = time_text(t);

	add(to, "time", text);
}

static void add_seconds(struct json_object *to, double seconds)
{
	char text[32];

	snprintf(text, sizeof(text), "%.6f", seconds);
	json_object_object_add(to, "seconds", json_object_new_double_s(seconds, text));
}

static const char *result(const struct engine_event *event)
{
	return event->code ? strerrorname_np(event->code) ?: "unknown" : "ok";
}

/* Takes the object over. */
static char *line_of(struct json_object *o)
{
	char *line = xasprintf("%s\n", json_object_to_json_string_ext(
					       o, JSON_C_TO_STRING_PLAIN |
							  JSON_C_TO_STRING_NOSLASHESCAPE));

	json_object_put(o);
	return line;
}

static char *event_line(const struct engine_event *event)
{
	struct json_object *o = json_object_new_object();

	add_time(o, &event->time);
	add(o, "event", event->name);
	add(o, "vm", event->vm);
	add(o, "uuid", event->uuid);
	add(o, "snapshot", event->snapshot);
	add(o, "new_name", event->new_name);
	add(o, "disk", event->disk);
	if (event->seconds > 0)
		add_seconds(o, event->seconds);
	if (event->bytes)
		json_object_object_add(o, "bytes", json_object_new_uint64(event->bytes));
	add(o, "result", result(event));
	add(o, "message", event->message);
	return line_of(o);
}

/* Shorter than every event's: those have a result and a message. */
static char *lost_line(uint64_t n)
{
	struct json_object *o = json_object_new_object();
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	add_time(o, &now);
	add(o, "event", "lost");
	json_object_object_add(o, "lines", json_object_new_uint64(n));
	return line_of(o);
}

/* ---- telling ---- */

static int level_of(enum event_weight weight)
{
	return weight == EVENT_TROUBLE ? LOG_WARNING : weight == EVENT_NOTE ? LOG_INFO : LOG_DEBUG;
}

static void log_event(const struct engine_event *event)
{
	const struct log_field fields[] = {
		{ "KWS_EVENT", event->name },
		{ "KWS_VM", event->vm },
		{ "KWS_VM_UUID", event->uuid },
		{ "KWS_SNAPSHOT", event->snapshot },
		{ "KWS_NEW_NAME", event->new_name },
		{ "KWS_DISK", event->disk },
		{ "KWS_ERRNO", event->code ? result(event) : NULL },
	};

	log_fields(level_of(event->weight), fields, sizeof(fields) / sizeof(fields[0]), "%s%s%s",
		   event->vm ?: "", event->vm ? ": " : "", event->message);
}

void events_tell(void *opaque, const struct engine_event *event)
{
	struct fs *fs = opaque;

	pthread_mutex_lock(&fs->events->lock);
	ring_add(fs->events->ring, event_line(event));
	pthread_mutex_unlock(&fs->events->lock);
	notifier_event(fs);
	log_event(event);
}

uint64_t events_total(struct events *ev)
{
	LOCK_SCOPE(&ev->lock);

	return ring_total(ev->ring);
}

/* ---- reading ---- */

/* As texts do: the answer is a copy, for the file may be closed as soon as it is given. */
static void event_file_read(fuse_req_t req, struct file *file, size_t size, off_t off)
{
	struct event_file *f = (struct event_file *)file;
	struct events *ev = FS(req)->events;
	cleanup_free char *buf = xcalloc(1, size + 1);
	size_t n;

	pthread_mutex_lock(&ev->lock);
	n = ring_read(ev->ring, &f->reader, buf, size);
	pthread_mutex_unlock(&ev->lock);
	fuse_reply_buf(req, buf, n);
}

static void destroy(struct fuse_pollhandle *ph)
{
	if (ph)
		fuse_pollhandle_destroy(ph);
}

static void event_file_poll(fuse_req_t req, struct file *file, struct fuse_pollhandle *ph)
{
	struct event_file *f = (struct event_file *)file;
	struct events *ev = FS(req)->events;
	struct fuse_pollhandle *old = NULL;
	bool has;

	pthread_mutex_lock(&ev->lock);
	if (ph) { /* else nobody waits, or it is the one that does already */
		old = f->ph;
		f->ph = ph;
	}
	has = ring_has(ev->ring, &f->reader);
	pthread_mutex_unlock(&ev->lock);
	destroy(old);
	fuse_reply_poll(req, has ? POLLIN | POLLRDNORM : 0);
}

/* One of those who wait for what is there by now; NULL if there is none. */
static struct fuse_pollhandle *take_waiting(struct events *ev)
{
	LOCK_SCOPE(&ev->lock);

	for (size_t i = 0; i < ev->open.n; i++)
		if (ev->open.at[i]->ph && ring_has(ev->ring, &ev->open.at[i]->reader))
			return steal_pointer(&ev->open.at[i]->ph);
	return NULL;
}

void events_wake(struct fs *fs)
{
	struct fuse_pollhandle *ph;

	while ((ph = take_waiting(fs->events))) {
		fuse_lowlevel_notify_poll(ph);
		destroy(ph);
	}
}

/* ---- opening ---- */

static void event_file_free(struct fs *fs, struct handle *h)
{
	struct event_file *f = (struct event_file *)h;
	struct events *ev = fs->events;

	pthread_mutex_lock(&ev->lock);
	for (size_t i = 0; i < ev->open.n; i++)
		if (ev->open.at[i] == f)
			ev->open.at[i] = ev->open.at[--ev->open.n];
	pthread_mutex_unlock(&ev->lock);
	destroy(f->ph);
	ring_reader_clear(&f->reader);
	free(f);
}

int events_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi, struct file **ret,
		struct err *err)
{
	struct event_file *f;

	if ((fi->flags & O_ACCMODE) != O_RDONLY)
		return err_set(err, EROFS, "%s can only be read", n->row->name);
	f = xnew(struct event_file);
	f->file = (struct file){ .read = event_file_read, .poll = event_file_poll };
	pthread_mutex_lock(&fs->events->lock);
	f->reader = ring_reader(fs->events->ring);
	vec_push(&fs->events->open, f);
	pthread_mutex_unlock(&fs->events->lock);
	handle_add(fs, &f->file.handle, event_file_free);
	fi->direct_io = 1;
	fi->nonseekable = 1;
	*ret = &f->file;
	return 0;
}

struct events *events_new(void)
{
	struct events *ev = xnew(struct events);

	pthread_mutex_init(&ev->lock, NULL);
	ev->ring = ring_new(HELD, lost_line);
	return ev;
}

void events_free(struct events *ev)
{
	ring_free(ev->ring);
	vec_free(&ev->open);
	pthread_mutex_destroy(&ev->lock);
	free(ev);
}
