/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Texts that are asked: who opens one, writes a question and reads the answer has it
 * for itself, however many ask at the same time. As the kernel's nfsd has it.
 *
 * The answer comes from the engine when the file may be closed already, because the
 * mount ends: so it is kept in something that the open file and the question share.
 */
#include "fs/core.h"

#include "common/cleanup.h"
#include "fs/control.h"

#include <errno.h>

struct answer {
	pthread_mutex_t lock;
	int refs;
	char *text;
};

struct question_file {
	struct file file;
	struct answer *answer;
};

/* A question that the engine has been asked. */
struct question {
	fuse_req_t req;
	size_t size; /* of what was written */
	struct answer *answer;
	char *text;
};

/* ---- answers ---- */

static void answer_unref(struct answer *a)
{
	int left;

	pthread_mutex_lock(&a->lock);
	left = --a->refs;
	pthread_mutex_unlock(&a->lock);
	if (left)
		return;
	pthread_mutex_destroy(&a->lock);
	free(a->text);
	free(a);
}

static struct answer *answer_ref(struct answer *a)
{
	LOCK_SCOPE(&a->lock);

	a->refs++;
	return a;
}

/* Takes the text over; NULL leaves the old one. */
static void answer_set(struct answer *a, char *text)
{
	LOCK_SCOPE(&a->lock);

	if (!text)
		return;
	free(a->text);
	a->text = text;
}

static char *answer_text(struct answer *a)
{
	LOCK_SCOPE(&a->lock);

	return xstrdup(a->text);
}

/* ---- the file ---- */

static void question_file_free(struct fs *fs, struct handle *h)
{
	struct question_file *f = (struct question_file *)h;

	answer_unref(f->answer);
	free(f);
}

static void question_read(fuse_req_t req, struct file *file, size_t size, off_t off)
{
	cleanup_free char *text = answer_text(((struct question_file *)file)->answer);
	size_t length = strlen(text);
	size_t left = (uint64_t)off < length ? length - off : 0;

	fuse_reply_buf(req, text + length - left, size < left ? size : left);
}

static void question_seek(fuse_req_t req, struct file *file, off_t off, int whence)
{
	cleanup_free char *text = answer_text(((struct question_file *)file)->answer);
	size_t length = strlen(text);

	if ((uint64_t)off >= length)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : (off_t)length);
}

/* ---- asking ---- */

static void on_answer(void *opaque, int r, const struct err *err)
{
	struct question *q = opaque;

	answer_set(q->answer, q->text);
	answer_unref(q->answer);
	if (r < 0) {
		tell_refusal(FS(q->req), (struct engine_event){ 0 }, err);
		fuse_reply_err(q->req, -r);
	} else {
		fuse_reply_write(q->req, q->size);
	}
	free(q);
}

/* 0: the request is answered, or will be. */
static int ask(fuse_req_t req, const struct node *n, struct answer *answer, const char *buf,
	       size_t size, struct err *err)
{
	cleanup_free char *line = NULL;
	struct question *q;
	int r = control_line(buf, size, &line, err);

	if (r < 0)
		return r;
	if (line[0] == '#') { /* what it reads, written back */
		fuse_reply_write(req, size);
		return 0;
	}
	q = xnew(struct question);
	*q = (struct question){ .req = req, .size = size, .answer = answer_ref(answer) };
	r = n->row->ask(FS(req), n, line, &q->text, on_answer, q, err);
	if (r < 0) {
		answer_unref(q->answer);
		free(q);
	}
	return r;
}

static void question_write(fuse_req_t req, struct file *file, fuse_ino_t ino, const char *buf,
			   size_t size, off_t off, int flags)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;

	if (node_open_ino(fs, ino, &n, &err) < 0)
		fuse_reply_err(req, err.code);
	else if (ask(req, &n, ((struct question_file *)file)->answer, buf, size, &err) < 0)
		refuse(fs, req, n.vm, &err);
}

int question_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi,
		  struct file **ret, struct err *err)
{
	struct question_file *f;
	size_t length;
	char *text;
	int r = node_text(fs, n, &text, &length, err);

	if (r < 0)
		return r;
	f = xnew(struct question_file);
	f->answer = xnew(struct answer);
	f->answer->refs = 1;
	f->answer->text = text;
	pthread_mutex_init(&f->answer->lock, NULL);
	f->file = (struct file){ .read = question_read, .write = question_write,
				 .seek = question_seek };
	handle_add(fs, &f->file.handle, question_file_free);
	fi->direct_io = 1;
	*ret = &f->file;
	return 0;
}
