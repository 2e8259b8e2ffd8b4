/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/plan.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <json-c/json.h>

struct plan *plan_new(void)
{
	return xnew(struct plan);
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_disks; i++) {
		free(p->disks[i].target);
		layer_file_clear(&p->disks[i].below);
		layer_file_clear(&p->disks[i].overlay);
		layer_file_clear(&p->disks[i].left);
	}
	free(p->disks);
	for (size_t i = 0; i < p->n_children; i++)
		free(p->children[i]);
	free(p->children);
	free(p->name);
	free(p->new_name);
	free(p->xml);
	free(p->old_xml);
	free(p->uuid);
	free(p->nvram_from);
	layer_file_clear(&p->nvram);
	free(p);
}

struct plan_disk *plan_add_disk(struct plan *p, const char *target)
{
	struct plan_disk *d;

	p->disks = xreallocarray(p->disks, p->n_disks + 1, sizeof(*p->disks));
	d = &p->disks[p->n_disks++];
	*d = (struct plan_disk){ .target = xstrdup(target) };
	return d;
}

void plan_add_child(struct plan *p, const char *name)
{
	p->children = xreallocarray(p->children, p->n_children + 1, sizeof(*p->children));
	p->children[p->n_children++] = xstrdup(name);
}

/* ---- to JSON ---- */

static void put_text(struct json_object *o, const char *key, const char *value)
{
	if (value)
		json_object_object_add(o, key, json_object_new_string(value));
}

static void put_number(struct json_object *o, const char *key, uint64_t value)
{
	if (value)
		json_object_object_add(o, key, json_object_new_uint64(value));
}

static void put_file(struct json_object *o, const char *key, const struct layer_file *f)
{
	struct json_object *file;

	if (!f->path)
		return;
	file = json_object_new_object();
	put_text(file, "path", f->path);
	put_text(file, "format", f->format);
	put_number(file, "dev", f->dev);
	put_number(file, "ino", f->ino);
	json_object_object_add(o, key, file);
}

char *plan_to_json(const struct plan *p)
{
	struct json_object *o = json_object_new_object();
	struct json_object *disks = json_object_new_array();
	struct json_object *children = json_object_new_array();
	char *text;

	put_text(o, "boot", boot_id());
	put_text(o, "name", p->name);
	put_text(o, "new_name", p->new_name);
	put_text(o, "xml", p->xml);
	put_text(o, "old_xml", p->old_xml);
	put_number(o, "snapshot", p->snapshot);
	put_number(o, "group", p->group);
	put_text(o, "uuid", p->uuid);
	put_text(o, "nvram_from", p->nvram_from);
	put_file(o, "nvram", &p->nvram);
	put_number(o, "clone", p->clone);
	put_number(o, "pool", p->pool);
	put_number(o, "flags", p->flags);
	put_number(o, "moves", p->moves);
	for (size_t i = 0; i < p->n_disks; i++) {
		struct json_object *d = json_object_new_object();

		put_text(d, "target", p->disks[i].target);
		put_file(d, "below", &p->disks[i].below);
		put_file(d, "overlay", &p->disks[i].overlay);
		put_file(d, "left", &p->disks[i].left);
		put_number(d, "size", p->disks[i].size);
		put_number(d, "written", p->disks[i].written);
		json_object_array_add(disks, d);
	}
	json_object_object_add(o, "disks", disks);
	for (size_t i = 0; i < p->n_children; i++)
		json_object_array_add(children, json_object_new_string(p->children[i]));
	json_object_object_add(o, "children", children);
	text = xstrdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	json_object_put(o);
	return text;
}

/* ---- from JSON ---- */

static char *get_text(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? xstrdup(json_object_get_string(v)) : NULL;
}

static uint64_t get_number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) ? json_object_get_uint64(v) : 0;
}

static void get_file(struct json_object *o, const char *key, bool this_boot, struct layer_file *ret)
{
	struct json_object *file;

	if (!json_object_object_get_ex(o, key, &file))
		return;
	ret->path = get_text(file, "path");
	ret->format = get_text(file, "format");
	ret->dev = this_boot ? get_number(file, "dev") : 0;
	ret->ino = get_number(file, "ino");
	layer_file_find_again(ret);
}

static bool is_this_boot(struct json_object *o)
{
	cleanup_free char *boot = get_text(o, "boot");

	return streq(boot, boot_id());
}

static void get_disks(struct json_object *o, struct plan *p)
{
	bool this_boot = is_this_boot(o);
	struct json_object *disks;

	if (!json_object_object_get_ex(o, "disks", &disks))
		return;
	for (size_t i = 0; i < json_object_array_length(disks); i++) {
		struct json_object *from = json_object_array_get_idx(disks, i);
		cleanup_free char *target = get_text(from, "target");
		struct plan_disk *d = plan_add_disk(p, target);

		get_file(from, "below", this_boot, &d->below);
		get_file(from, "overlay", this_boot, &d->overlay);
		get_file(from, "left", this_boot, &d->left);
		d->size = get_number(from, "size");
		d->written = get_number(from, "written");
	}
}

static void get_children(struct json_object *o, struct plan *p)
{
	struct json_object *children;

	if (!json_object_object_get_ex(o, "children", &children))
		return;
	for (size_t i = 0; i < json_object_array_length(children); i++)
		plan_add_child(p, json_object_get_string(json_object_array_get_idx(children, i)));
}

int plan_from_json(const char *json, struct plan **ret, struct err *err)
{
	struct json_object *o = json_tokener_parse(json);
	struct plan *p;

	if (!json_object_is_type(o, json_type_object)) {
		json_object_put(o);
		return err_set(err, EIO, "the journal holds a plan that is no JSON object");
	}
	p = plan_new();
	p->name = get_text(o, "name");
	p->new_name = get_text(o, "new_name");
	p->xml = get_text(o, "xml");
	p->old_xml = get_text(o, "old_xml");
	p->snapshot = get_number(o, "snapshot");
	p->group = get_number(o, "group");
	p->uuid = get_text(o, "uuid");
	p->nvram_from = get_text(o, "nvram_from");
	get_file(o, "nvram", is_this_boot(o), &p->nvram);
	p->clone = get_number(o, "clone");
	p->pool = get_number(o, "pool");
	p->flags = get_number(o, "flags");
	p->moves = get_number(o, "moves");
	get_disks(o, p);
	get_children(o, p);
	json_object_put(o);
	*ret = p;
	return 0;
}
