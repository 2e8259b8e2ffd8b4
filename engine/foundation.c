/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/foundation.h"

#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/disk-shape.h"
#include "engine/own-mount.h"

#include <errno.h>

static int find_disk(struct engine *e, const char *inside, struct disk_id *ret)
{
	if (!e->observer->find_disk)
		return -ENOENT;
	return e->observer->find_disk(e->observer->opaque, inside, ret);
}

int foundation_resolve(void *engine, const char *inside, char **ret_path, char **ret_format,
		       struct err *err)
{
	cleanup(disk_description_clear) struct disk_description d = { 0 };
	struct engine *e = engine;
	struct disk_id id;
	int r;

	if (find_disk(e, inside, &id) < 0)
		return err_set(err, EIO, "a layer lies on %s in this mount, which is not there", inside);
	if (id.shape == SHAPE_PARTITION || id.shape == SHAPE_MAP)
		return err_set(err, EOPNOTSUPP, "a layer lies on %s in this mount, which is not an "
			       "image of a whole disk", inside);
	r = engine_vm_verify(e, id.vm, err);
	if (r >= 0)
		r = disk_describe(e, &id, &d, err);
	if (r < 0)
		return r;
	*ret_path = steal_pointer(&d.path);
	*ret_format = steal_pointer(&d.format);
	return 0;
}

char *foundation_of(const char *path, const char *format)
{
	cleanup_free char *at = xstrdup(path), *as = xstrdup(format ?: "raw");

	for (int depth = 0; at && depth < CHAIN_MAX_LAYERS; depth++) {
		cleanup_free char *this = steal_pointer(&at), *this_format = steal_pointer(&as);
		char *inside = own_mount_inside(this);

		if (inside)
			return inside;
		if (layer_backing(this, this_format ?: "raw", &at, &as, NULL) < 0)
			break;
	}
	return NULL;
}

/* A VM, and what it lies on. */
struct tenant {
	uint32_t vm;
	char *name;
	char *inside;
};

typedef vec_of(struct tenant) tenants_t;

static void tenants_clear(tenants_t *tenants)
{
	for (size_t i = 0; i < tenants->n; i++) {
		free(tenants->at[i].name);
		free(tenants->at[i].inside);
	}
	vec_free(tenants);
}

static void list_tenants(struct engine *e, tenants_t *ret)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->slots.n; i++) {
		const struct slot *s = e->slots.at[i];

		for (size_t n = 0; s->view && n < s->foundations.n; n++)
			vec_push(ret, ((struct tenant){ s->id, xstrdup(s->view->name),
							xstrdup(s->foundations.at[n]) }));
	}
}

/* Of those that are known, the ones that lie on this snapshot. */
static void tenants_of(struct engine *e, const struct snapshot *s, tenants_t *ret)
{
	cleanup(tenants_clear) tenants_t all = { 0 };

	list_tenants(e, &all);
	for (size_t i = 0; i < all.n; i++) {
		struct tenant *t = &all.at[i];
		struct disk_id id;

		if (find_disk(e, t->inside, &id) >= 0 && id.snapshot == s->id)
			vec_push(ret, ((struct tenant){ t->vm, steal_pointer(&t->name),
							steal_pointer(&t->inside) }));
	}
}

int foundation_check(struct engine *e, const struct snapshot *s, struct err *err)
{
	cleanup(tenants_clear) tenants_t known = { 0 }, still = { 0 };

	/* One that was defined just now counts; one that was undefined is no reason to refuse anything. */
	engine_vms_refresh(e);
	tenants_of(e, s, &known);
	for (size_t i = 0; i < known.n; i++)
		engine_vm_refresh(e, known.at[i].vm, 0);
	if (known.n)
		tenants_of(e, s, &still);
	if (still.n)
		return err_set(err, EBUSY, "a disk of the VM %s lies on %s: merge it into that "
			       "disk, or undefine the VM, first", still.at[0].name, still.at[0].inside);
	return 0;
}
