/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Draws a dashboard of VMs that are made up: draw-dashboard VMS SNAPSHOTS >page.html
 *
 * Of every VM's snapshots each fifth is taken after a revert, and so begins a branch. Says on
 * stderr how long the drawing took.
 */
#include "common/mem.h"
#include "fs/dashboard.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void make_snapshot(struct vm *vm, size_t number, time_t now)
{
	struct snapshot *s = &vm->snapshots[number];
	size_t parent = number % 5 == 4 ? number - 3 : number - 1;

	s->id = vm->id * 1000 + number + 1;
	s->parent = number == 0 ? 0 : vm->snapshots[parent].id;
	s->name = xasprintf("nightly-%03zu", number);
	s->description = xstrdup(number % 10 == 0 ? "before the update of the database" : "");
	s->created.tv_sec = now - (vm->n_snapshots - number) * 86400;
	s->consistency = number % 4;
	s->pinned = number % 25 == 7;
}

static void make_vm(struct vm_facts *to, unsigned number, size_t n_snapshots, time_t now)
{
	struct vm *vm = xnew(struct vm);

	vm->id = number + 1;
	vm->name = xasprintf("web%u", number + 1);
	vm->active = number % 3 > 0;
	vm->state = vm->active ? "running" : "shut off";
	vm->n_snapshots = n_snapshots;
	vm->snapshots = xcalloc(n_snapshots + 1, sizeof(*vm->snapshots));
	for (size_t i = 0; i < n_snapshots; i++)
		make_snapshot(vm, i, now);
	vm->current = n_snapshots ? vm->snapshots[n_snapshots - 1].id : 0;
	to->vm = vm;
	to->held = xcalloc(n_snapshots + 1, sizeof(*to->held));
	for (size_t i = 0; i < n_snapshots; i++)
		to->held_by_all += to->held[i] = (i * 7919 % 1000 + 1) * 3000000;
	to->folder = vm->name;
	to->last_error = xstrdup(number % 50 == 3 ? "disk vda cannot take part in snapshots: it is raw" : "");
	to->ttl = xstrdup("none");
	to->max_depth = DEPTH_DEFAULT;
	to->depth = 1 + n_snapshots * 4 / 5;
}

/* Each of the first twenty is like the next one; every fourth has nobody. */
static void make_successors(struct facts *f)
{
	for (size_t i = 0; i < f->n_vms && i < 20; i++, f->n_compared++) {
		struct successor *s = &f->vms[i].successor;
		size_t next = (i + 1) % f->n_vms;

		*s = (struct successor){ .looked = true };
		if (i % 4 == 3)
			continue;
		s->name = xstrdup(f->vms[next].vm->name);
		s->similarity = 1 - i / 40.0;
		s->way = f->vms[next].vm->active ? 0 : RECOVER_BY_START;
	}
	f->n_not_compared = f->n_vms - f->n_compared;
}

static void make_pools(struct facts *f)
{
	static struct pool pools[] = {
		{ .name = (char *)"web", .path = (char *)"web1/nightly-099", .settings = { .spare = 3 } },
		{ .name = (char *)"database", .path = (char *)"web7/nightly-098" },
	};
	static struct pool_facts facts[] = {
		{ &pools[0], { 3, 2, (char *)"there is no room for it on /srv/images" }, 12, 4 },
		{ &pools[1], { 0, 0, (char *)"" }, 1, 0 },
	};

	f->pools = facts;
	f->n_pools = 2;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Nothing is freed: the process ends with the page, and so that nobody looks for leaks. */
int main(int argc, char **argv)
{
	struct facts f = { .host = xstrdup("made-up"), .mountpoint = "/kws", .connected = true,
			   .orphans_looked = true, .orphans_error = xstrdup(""), .last_error = xstrdup("") };
	struct space space = { xstrdup("/srv/images"), 4ull << 40, 700ull << 30, true, -9e5, 21300 };
	size_t n_snapshots;
	double began;

	if (argc < 3) {
		fprintf(stderr, "usage: draw-dashboard VMS SNAPSHOTS\n");
		return 2;
	}
	f.n_vms = strtoul(argv[1], NULL, 10);
	n_snapshots = strtoul(argv[2], NULL, 10);
	clock_gettime(CLOCK_REALTIME, &f.now);
	f.vms = xcalloc(f.n_vms + 1, sizeof(*f.vms));
	f.spaces = &space;
	f.n_spaces = 1;
	for (size_t i = 0; i < f.n_vms; i++)
		make_vm(&f.vms[i], i, n_snapshots, f.now.tv_sec);
	make_successors(&f);
	make_pools(&f);
	began = seconds();
	dashboard_draw(&f, stdout);
	fflush(stdout);
	fprintf(stderr, "drawn in %.3f s\n", seconds() - began);
	_exit(0);
}
