/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images in our naming that nobody needs: what lost+found shows. */
#ifndef KWS_ENGINE_ORPHANS_H
#define KWS_ENGINE_ORPHANS_H

#include "engine/core.h"

/* Finds them; the caller gives them back. -EHOSTDOWN and the like. */
int orphans_find(struct engine *e, struct orphan_list **ret, struct err *err);

/* The same, and publishes what it finds. Without libvirt, what is known stays. */
void orphans_look(struct engine *e);

/* Takes the list over. */
void orphans_publish(struct engine *e, struct orphan_list *list);

/* NULL if there is none. */
const struct orphan *orphan_find(const struct orphan_list *list, uint64_t id);

void orphans_set_last_error(struct engine *e, const char *msg);

#endif
