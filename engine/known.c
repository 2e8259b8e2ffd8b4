/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/known.h"

void known_clear(known_t *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->at[i].name);
	vec_free(k);
}

static struct known *known_of(known_t *k, const char *uuid)
{
	for (size_t i = 0; i < k->n; i++)
		if (streq(k->at[i].uuid, uuid))
			return &k->at[i];
	return NULL;
}

int know_vms(struct engine *e, known_t *ret, struct err *err)
{
	cleanup_free struct registry_vm_seen *seen = NULL;
	struct hv_domain *domains = NULL;
	size_t n = 0, n_seen = 0;
	int r = e->hv->ops->list(e->hv, &domains, &n, err);

	for (size_t i = 0; i < n; i++) {
		struct known *k = vec_add(ret);

		memcpy(k->uuid, domains[i].uuid, sizeof(k->uuid));
		k->name = steal_pointer(&domains[i].name);
		k->there = true;
		k->saved = domains[i].saved;
	}
	hv_domains_free(domains, n);
	if (r >= 0)
		r = registry_vms(e->registry, &seen, &n_seen, err);
	for (size_t i = 0; i < n_seen && r >= 0; i++) {
		struct known *k = known_of(ret, seen[i].uuid);

		if (!k) {
			k = vec_add(ret);
			memcpy(k->uuid, seen[i].uuid, sizeof(k->uuid));
		}
		k->id = seen[i].id;
	}
	return r;
}
