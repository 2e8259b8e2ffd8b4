/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/metadata.h"

#include <errno.h>

DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

int snapshot_names_read(struct engine *e, struct slot *s, struct snapshot_names *ret,
			struct err *err)
{
	return e->hv->ops->snapshots(e->hv, s->uuid, &ret->at, &ret->n, &ret->current, err);
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

int metadata_redefine(struct engine *e, struct slot *s, const char *xml,
		      const struct snapshot_edit *edit, bool current, struct err *err)
{
	cleanup_free char *edited = NULL;
	int r = snapshot_xml_edit(xml, edit, &edited, err);

	return r < 0 ? r : e->hv->ops->snapshot_redefine(e->hv, s->uuid, edited, current, err);
}

static int adopt_one(struct engine *e, struct slot *s, const char *name, const char *from,
		     const char *to, struct err *err)
{
	struct snapshot_edit edit = { .parent = to };
	cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->snapshot_xml(e->hv, s->uuid, name, &xml, err);

	if (r >= 0)
		r = snapshot_xml_parse(xml, &x, err);
	if (r < 0 || !streq(x->parent, from))
		return r;
	/* Without saying so the current one stays the current one. */
	return metadata_redefine(e, s, xml, &edit, false, err);
}

int metadata_adopt(struct engine *e, struct slot *s, const char *from, const char *to,
		   struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	int r = snapshot_names_read(e, s, &names, err);

	for (size_t i = 0; i < names.n && r >= 0; i++)
		r = adopt_one(e, s, names.at[i], from, to, err);
	return r;
}
