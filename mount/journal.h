/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_MOUNT_JOURNAL_H
#define KWS_MOUNT_JOURNAL_H

#include "common/log.h"

/* If the log goes to systemd's journal anyway, by syslog or because that is what stderr is,
 * has the journal keep the fields of each line. After log_open. */
void journal_use(enum log_target target);

#endif
