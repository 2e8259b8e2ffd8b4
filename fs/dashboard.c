/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file dashboard.html. Its size is told before it is read, as that of every text, so each
 * `ls -l` makes it; of a thousand VMs that takes a while. So a page is kept, and shown for
 * a moment: cp, tar and rsync then read the one whose size and time they were told.
 *
 * It is there for the owner of the mount alone, 0400: it tells of all VMs, whoever they were
 * delegated to. Who is to see it without that gets a copy.
 */
#include "fs/dashboard.h"

#include "common/cleanup.h"
#include "common/timespec.h"
#include "fs/core.h"
#include "fs/text.h"

#include <errno.h>

#define SHOWN_SECONDS 2 /* of which the first may be a part */

/* A page never changes; who reads it holds a reference. */
struct page {
	int refs;
	char *text;
	size_t length;
	struct timespec made;
	struct timespec until; /* CLOCK_MONOTONIC */
};

struct dashboard {
	pthread_mutex_t lock; /* of `page`, for a few instructions */
	struct page *page;    /* NULL: there was none yet */
};

static void page_unref(struct page *page)
{
	if (!page || __atomic_sub_fetch(&page->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	free(page->text);
	free(page);
}

DEFINE_CLEANUP(struct page, page_unref);

struct dashboard *dashboard_new(void)
{
	struct dashboard *d = xnew(struct dashboard);

	pthread_mutex_init(&d->lock, NULL);
	return d;
}

void dashboard_free(struct dashboard *d)
{
	if (!d)
		return;
	page_unref(d->page);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static struct page *page_make(struct fs *fs, struct err *err)
{
	struct page *page = xnew(struct page);
	FILE *out = open_memstream(&page->text, &page->length);
	cleanup(facts_clear) struct facts f = { 0 };

	page->refs = 1;
	if (!out) {
		page_unref(page);
		err_sys(err, errno, "cannot make the page");
		return NULL;
	}
	facts_gather(fs, &f);
	dashboard_draw(&f, out);
	if (fclose(out) != 0) {
		err_sys(err, errno, "cannot make the page");
		page_unref(page);
		return NULL;
	}
	page->made = f.now;
	page->until = monotonic_in(SHOWN_SECONDS * 1000LL);
	return page;
}

/* The one that is kept, if it may still be shown. */
static struct page *page_kept(struct dashboard *d)
{
	struct timespec now;
	LOCK_SCOPE(&d->lock);

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!d->page || now.tv_sec >= d->page->until.tv_sec)
		return NULL;
	__atomic_add_fetch(&d->page->refs, 1, __ATOMIC_RELAXED);
	return d->page;
}

/* With a reference; NULL after a failure. */
static struct page *page_of(struct fs *fs, struct err *err)
{
	struct dashboard *d = fs->dashboard;
	struct page *page = page_kept(d), *old;

	if (page)
		return page;
	page = page_make(fs, err);
	if (!page)
		return NULL;
	page->refs++;
	pthread_mutex_lock(&d->lock);
	old = d->page;
	d->page = page;
	pthread_mutex_unlock(&d->lock);
	page_unref(old);
	return page;
}

int show_dashboard(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(page_unref_p) struct page *page = page_of(fs, err);

	if (!page)
		return -ENOMEM;
	fwrite(page->text, 1, page->length, out);
	return 0;
}

struct timespec dashboard_made(struct fs *fs)
{
	cleanup(page_unref_p) struct page *page = page_of(fs, NULL);

	return page ? page->made : fs->mounted;
}
