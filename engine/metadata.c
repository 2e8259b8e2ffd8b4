/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/metadata.h"

#include <errno.h>

int snapshot_names_read(struct engine *e, struct slot *s, struct snapshot_names *ret,
			struct err *err)
{
	return e->hv->ops->snapshots(e->hv, s->uuid, &ret->at, &ret->n, &ret->current, err);
}

int snapshot_children_read(struct engine *e, struct slot *s, const char *name,
			   struct snapshot_names *ret, struct err *err)
{
	return e->hv->ops->snapshot_children(e->hv, s->uuid, name, &ret->at, &ret->n, err);
}

void snapshot_names_clear(struct snapshot_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->at[i]);
	free(names->at);
	free(names->current);
}

bool snapshot_names_have(const struct snapshot_names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (streq(names->at[i], name))
			return true;
	return false;
}

/* ---- what they say ---- */

void snapshots_metadata_clear(snapshots_metadata_t *s)
{
	for (size_t i = 0; i < s->n; i++) {
		snapshot_xml_free(s->at[i].snapshot);
		domain_xml_free(s->at[i].domain);
	}
	vec_free(s);
}

static int read_one(struct engine *e, const char *uuid, const char *name,
		    snapshots_metadata_t *to, struct err *err)
{
	cleanup_free char *xml = NULL, *domain = NULL;
	struct snapshot_metadata found = { 0 };
	int r = e->hv->ops->snapshot_xml(e->hv, uuid, name, &xml, err);

	if (r >= 0)
		r = snapshot_xml_parse(xml, &found.snapshot, err);
	if (r < 0)
		return r;
	if (snapshot_xml_domain(xml, &domain, NULL) >= 0)
		domain_xml_parse(domain, &found.domain, NULL);
	vec_push(to, found);
	return 0;
}

static int read_all(struct engine *e, const char *uuid, snapshots_metadata_t *to, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	int r = e->hv->ops->snapshots(e->hv, uuid, &names.at, &names.n, &names.current, err);

	if (r == -ENOENT)
		return 0; /* the domain is gone */
	for (size_t i = 0; i < names.n && r >= 0; i++) {
		r = read_one(e, uuid, names.at[i], to, err);
		if (r == -ENOENT)
			return -EAGAIN;
	}
	return r;
}

#define TRIES 5

/* One that goes between the two calls may have got another name: then all of it is
 * asked again. */
int snapshots_metadata_read(struct engine *e, const char *uuid, snapshots_metadata_t *ret,
			    struct err *err)
{
	int r = -EAGAIN;

	for (int i = 0; i < TRIES && r == -EAGAIN; i++) {
		snapshots_metadata_clear(ret);
		r = read_all(e, uuid, ret, err);
	}
	if (r == -EAGAIN)
		return err_set(err, EBUSY, "its snapshots change while they are looked at");
	return r;
}

/* ---- changing them ---- */

int metadata_redefine(struct engine *e, struct slot *s, const char *xml,
		      const struct snapshot_edit *edit, bool current, struct err *err)
{
	cleanup_free char *edited = NULL;
	int r = snapshot_xml_edit(xml, edit, &edited, err);

	return r < 0 ? r : e->hv->ops->snapshot_redefine(e->hv, s->uuid, edited, current, err);
}

int metadata_set_parent(struct engine *e, struct slot *s, const char *name, const char *parent,
			struct err *err)
{
	struct snapshot_edit edit = { .parent = parent };
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->snapshot_xml(e->hv, s->uuid, name, &xml, err);

	/* Without saying so the current one stays the current one. */
	return r < 0 ? r : metadata_redefine(e, s, xml, &edit, false, err);
}

int metadata_adopt(struct engine *e, struct slot *s, const char *from, const char *to,
		   struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names children = { 0 };
	int r = snapshot_children_read(e, s, from, &children, err);

	if (r == -ENOENT)
		r = 0; /* it is not there, or not any more: nobody hangs under it */
	for (size_t i = 0; i < children.n && r >= 0; i++)
		r = metadata_set_parent(e, s, children.at[i], to, err);
	return r;
}

int config_rename(struct engine *e, struct slot *s, const struct xml_rename *renames, size_t n,
		  struct err *err)
{
	cleanup_free char *xml = NULL, *edited = NULL;
	struct hv_domain state = { 0 };
	bool changed = false;
	int r = e->hv->ops->lookup(e->hv, s->uuid, &state, err);

	if (r < 0)
		return r;
	free(state.name);
	if (!state.persistent)
		return 0; /* defining it would make it one that is */
	r = e->hv->ops->domain_xml(e->hv, s->uuid, true, &xml, err);
	if (r >= 0)
		r = domain_xml_rename(xml, renames, n, &edited, &changed, err);
	return r >= 0 && changed ? e->hv->ops->define(e->hv, edited, err) : r;
}
