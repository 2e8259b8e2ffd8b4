/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dashboard.html: all VMs and their snapshots on one page that needs nothing else.
 *
 * First the facts are gathered (dashboard-facts.c), then they are drawn, by functions that
 * know facts only (dashboard-page.c, dashboard-vm.c). A fact more is a member here, a line
 * where it is gathered, one where it is drawn, and its name in dashboard-words.c.
 */
#ifndef KWS_FS_DASHBOARD_H
#define KWS_FS_DASHBOARD_H

#include "engine/engine.h"
#include "fs/dashboard-words.h"

#include <stdio.h>

struct fs;

#define HELD_UNKNOWN UINT64_MAX

/* Who would take a VM's place. */
struct successor {
	bool looked; /* false: nothing is known of the VM that could be compared, or too many are */
	char *name;  /* as `candidates` has it; NULL: nobody would */
	double similarity;
	enum recovery_way way;
};

struct pool_facts {
	const struct pool *pool;
	struct pool_health health;
	size_t current, outdated; /* instances: of what it publishes, of what it published before */
};

struct vm_facts {
	const struct vm *vm;
	const char *folder; /* its name in the tree */
	struct job_status job;
	char *last_error; /* "" if there was none */
	unsigned depth, max_depth; /* layers; depth 0: not known */
	struct outlook outlook;
	char *ttl; /* "none" if snapshots do not expire by it */
	uint64_t *held;   /* by snapshot, bytes; HELD_UNKNOWN */
	uint64_t held_by_all; /* of which it is known */
	struct successor successor;
};

struct facts {
	struct timespec now;
	char *host;
	const char *mountpoint;
	bool connected;
	struct vm_list *list; /* a reference, NULL is allowed */
	struct vm_facts *vms; /* by name */
	size_t n_vms;
	struct space *spaces;
	size_t n_spaces;
	size_t n_orphans;
	bool orphans_looked; /* false: nobody has looked for them */
	char *orphans_error; /* "" if there was none */
	char *last_error;    /* the same of what is about no VM */
	struct pool_list *pool_list; /* a reference, NULL is allowed */
	struct pool_facts *pools;
	size_t n_pools;
	size_t n_compared, n_not_compared; /* VMs with a successor that was looked for, and others */
};

/* ---- dashboard-facts.c ---- */

/* Waits for no libvirt and for no file. */
void facts_gather(struct fs *fs, struct facts *ret);
void facts_clear(struct facts *f);

/* ---- dashboard-page.c ---- */

void dashboard_draw(const struct facts *f, FILE *out);
void begin_section(const char *id, enum word title, FILE *out);
void end_section(FILE *out);

/* ---- dashboard-recovery.c ---- */

void draw_pools(const struct facts *f, FILE *out);
void draw_recovery(const struct facts *f, FILE *out);

/* ---- dashboard-vm.c ---- */

/* At most `max_rows` of its snapshots, the newest. */
void dashboard_draw_vm(const struct facts *f, const struct vm_facts *vm, size_t max_rows,
		       bool open, FILE *out);
void draw_vm_link(const struct vm_facts *vm, FILE *out);
void draw_job(const struct job_status *job, FILE *out);

/* ---- dashboard-pieces.c: what both draw ---- */

void draw_bytes(uint64_t bytes, FILE *out);     /* "3.2 GiB" */
void draw_duration(double seconds, FILE *out);  /* in the largest unit that fits */
void draw_moment(const struct timespec *t, FILE *out);
/* A bar, `part` of it filled, from 0 to 1, and told by what it stands for by its colour. */
enum bar { BAR_CALM, BAR_WARNING, BAR_ALARM };
void draw_bar(double part, enum bar bar, FILE *out);
/* What draws, as a text; the caller frees it. */
char *drawn_duration(double seconds);
char *drawn_bytes(uint64_t bytes);

/* ---- dashboard.c ---- */

struct dashboard;
struct dashboard *dashboard_new(void);
void dashboard_free(struct dashboard *d); /* NULL is allowed */
/* When the page that is shown at the moment was made. */
struct timespec dashboard_made(struct fs *fs);

#endif
