/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * info.json: all that is known of a snapshot, for programs. Paths of the host
 * are not in it: whoever a VM is delegated to need not know them.
 */
#include "common/cleanup.h"
#include "fs/core.h"
#include "fs/text.h"

#include <inttypes.h>
#include <json-c/json.h>

static void add(struct json_object *to, const char *key, const char *text)
{
	json_object_object_add(to, key, text ? json_object_new_string(text) : NULL);
}

static void add_time(struct json_object *to, const char *key, const struct timespec *t)
{
	cleanup_free char *text = time_text(t);

	add(to, key, text);
}

static struct json_object *vm_json(const struct vm *vm)
{
	struct json_object *o = json_object_new_object();

	add(o, "name", vm->name);
	add(o, "uuid", vm->uuid);
	return o;
}

static struct json_object *disk_json(struct fs *fs, const struct node *n, size_t i)
{
	const struct snapshot_disk *disk = &n->snapshot->disks[i];
	cleanup_free char *file = xasprintf("%s.raw", disk->target);
	struct json_object *o = json_object_new_object();
	struct err err = ERR_INIT;
	struct disk_id id = { n->vm->id, n->snapshot->id, i, SHAPE_RAW, 0 };
	struct disk_stat disk_stat;

	add(o, "target", disk->target);
	add(o, "file", file);
	add(o, "format", disk->format);
	if (engine_disk_stat(fs->e, &id, &disk_stat, &err) < 0) {
		add(o, "error", err.msg);
		return o;
	}
	json_object_object_add(o, "size", json_object_new_uint64(disk_stat.size));
	json_object_object_add(o, "allocated", json_object_new_uint64(disk_stat.allocated));
	return o;
}

int show_info_json(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	const struct snapshot *s = n->snapshot, *parent = vm_snapshot(n->vm, s->parent);
	struct json_object *o = json_object_new_object(), *disks = json_object_new_array();

	add(o, "name", s->name);
	add_time(o, "created", &s->created);
	add(o, "parent", parent ? parent->name : NULL);
	add(o, "description", s->description);
	json_object_object_add(o, "pinned", json_object_new_boolean(s->pinned));
	add(o, "consistency", consistency_to_string(s->consistency));
	json_object_object_add(o, "vm", vm_json(n->vm));
	for (size_t i = 0; i < s->n_disks; i++)
		json_object_array_add(disks, disk_json(fs, n, i));
	json_object_object_add(o, "disks", disks);
	fprintf(out, "%s\n",
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
						  JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return 0;
}
