/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table needs for recovering a VM: recover, auto and report in recovery/VM. */
#ifndef KWS_FS_RECOVER_H
#define KWS_FS_RECOVER_H

#include "fs/control.h"
#include "fs/text.h"

show_fn show_recover_help, show_recovery_auto, show_recovery_report;
store_fn store_recover, store_recovery_auto;

#endif
