/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options come from three sides: a person, /etc/fstab through mount(8), and
 * systemd. So those that mount(8) hands on to every file system are taken and
 * ignored where ignoring them does no harm, and refused by name where it would.
 */
#include "mount/options.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/engine.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>

#define DEFAULT_URI "qemu:///system"
#define DEFAULT_MOUNTPOINT "/kws"
#define DEFAULT_STATE "/var/lib/kws"
#define DEFAULT_UMASK 0077

#define HOOK_TIMEOUT_MOST (24 * 60 * 60)

_Static_assert(DEPTH_DEFAULT == 128 && HOOK_TIMEOUT_DEFAULT == 60, "options_help says so");

const char options_help[] =
	"Usage: kwsfs [-o OPTIONS] [URI] [MOUNTPOINT]\n"
	"       kwsfs fsck [-n|-y] [-o OPTIONS] [URI]\n"
	"\n"
	"Mounts the snapshots of libvirt's VMs as directories; or checks that libvirt, the\n"
	"images and what kwsfs keeps agree, mounted or not.\n"
	"URI is libvirt's (" DEFAULT_URI "), MOUNTPOINT a directory (" DEFAULT_MOUNTPOINT ").\n"
	"\n"
	"  -f, --foreground   stay in the foreground\n"
	"  -h, --help         show this\n"
	"  -V, --version      show the version\n"
	"  -n, -y             fsck: say only what is found; mend what can be without risk\n"
	"  -o OPTION,...\n"
	"     uri=URI         instead of the argument\n"
	"     state=DIR       registry and journal (" DEFAULT_STATE ")\n"
	"     store=DIR       where overlays go, instead of beside their disks\n"
	"     overlay_options=NAME=VALUE:...\n"
	"                     of new overlays, as after qemu-img create -o\n"
	"                     (extended_l2=on:cluster_size=128k)\n"
	"     max_depth=N     layers that the chain of a disk may have (128)\n"
	"     hooks=DIR       programs to run before and after snapshot, revert and delete\n"
	"     hook_timeout=N  seconds that each may take (60)\n"
	"     allow_other     other users may look in, as far as modes let them\n"
	"     uid=, gid=      owner of a VM's directory until it is changed (who mounts)\n"
	"     umask=OCTAL     what is taken from mode 0777 of it (077)\n"
	"     foreground      as -f\n"
	"     log=TARGET      stderr or syslog, then :err, :warning, :info or :debug\n"
	"\n"
	"See kwsfs(8).\n";

/* ---- values ---- */

static int parse_number(const char *text, int base, unsigned long max, unsigned long *ret)
{
	char *end;
	unsigned long n;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoul(text, &end, base);
	if (errno || *end || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

/* (uid_t)-1 means "none" to the kernel. */
#define ID_MAX (UINT_MAX - 1)

static int set_uid(struct options *o, const char *value, struct err *err)
{
	const struct passwd *user = getpwnam(value);
	unsigned long n;

	if (user)
		o->uid = user->pw_uid;
	else if (parse_number(value, 10, ID_MAX, &n) == 0)
		o->uid = n;
	else
		return err_set(err, EINVAL, "uid=%s: there is no such user", value);
	return 0;
}

static int set_gid(struct options *o, const char *value, struct err *err)
{
	const struct group *group = getgrnam(value);
	unsigned long n;

	if (group)
		o->gid = group->gr_gid;
	else if (parse_number(value, 10, ID_MAX, &n) == 0)
		o->gid = n;
	else
		return err_set(err, EINVAL, "gid=%s: there is no such group", value);
	return 0;
}

static int set_umask(struct options *o, const char *value, struct err *err)
{
	unsigned long n;

	if (parse_number(value, 8, 0777, &n) < 0)
		return err_set(err, EINVAL, "umask=%s: it is three octal digits, as in 027", value);
	o->umask = n;
	return 0;
}

static int set_max_depth(struct options *o, const char *value, struct err *err)
{
	unsigned long n;

	if (parse_number(value, 10, DEPTH_MOST, &n) < 0 || n < DEPTH_LEAST)
		return err_set(err, EINVAL, "max_depth=%s: it is a number of layers from %d to %d",
			       value, DEPTH_LEAST, DEPTH_MOST);
	o->max_depth = n;
	return 0;
}

static int set_hook_timeout(struct options *o, const char *value, struct err *err)
{
	unsigned long n;

	if (parse_number(value, 10, HOOK_TIMEOUT_MOST, &n) < 0 || n == 0)
		return err_set(err, EINVAL, "hook_timeout=%s: it is a number of seconds from 1 to %d",
			       value, HOOK_TIMEOUT_MOST);
	o->hook_timeout = n;
	return 0;
}

/* TARGET[:LEVEL] */
static int set_log(struct options *o, const char *value, struct err *err)
{
	static const struct {
		const char *name;
		int level;
	} levels[] = { { "", LOG_INFO }, { ":err", LOG_ERR }, { ":warning", LOG_WARNING },
		       { ":info", LOG_INFO }, { ":debug", LOG_DEBUG } };
	size_t target = strcspn(value, ":");

	o->log_level = -1;
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (streq(value + target, levels[i].name))
			o->log_level = levels[i].level;
	if (target == 6 && strncmp(value, "stderr", target) == 0)
		o->log_target = LOG_TO_STDERR;
	else if (target == 6 && strncmp(value, "syslog", target) == 0)
		o->log_target = LOG_TO_SYSLOG;
	else
		o->log_level = -1;
	if (o->log_level < 0)
		return err_set(err, EINVAL, "log=%s: it is stderr or syslog, and after a colon err, "
			       "warning, info or debug", value);
	o->log_given = true;
	return 0;
}

static void set_text(char **place, const char *value)
{
	free(*place);
	*place = xstrdup(value);
}

/* The daemon works in /, so what was meant from here is said from there. */
static int set_dir(char **place, const char *name, const char *value, struct err *err)
{
	cleanup_free char *cwd = NULL;

	if (value[0] == '\0')
		return err_set(err, EINVAL, "%s= needs a directory", name);
	if (value[0] == '/') {
		set_text(place, value);
		return 0;
	}
	cwd = getcwd(NULL, 0);
	if (!cwd)
		return err_sys(err, errno, "%s=%s: cannot tell where that is", name, value);
	free(*place);
	*place = xasprintf("%s/%s", cwd, value);
	return 0;
}

/* Colons stand for commas, which end an option of mount(8). */
static void set_overlay_options(struct options *o, const char *value)
{
	set_text(&o->overlay_options, value);
	for (char *p = o->overlay_options; (p = strchr(p, ':'));)
		*p = ',';
}

/* ---- -o ---- */

enum token {
	OPT_URI, OPT_STATE, OPT_STORE, OPT_ALLOW_OTHER, OPT_UID, OPT_GID, OPT_UMASK,
	OPT_FOREGROUND, OPT_LOG, OPT_OVERLAY_OPTIONS, OPT_MAX_DEPTH, OPT_HOOKS, OPT_HOOK_TIMEOUT,
	OPT_RO,
};

static char *const tokens[] = {
	[OPT_URI] = (char *)"uri", [OPT_STATE] = (char *)"state", [OPT_STORE] = (char *)"store",
	[OPT_ALLOW_OTHER] = (char *)"allow_other", [OPT_UID] = (char *)"uid",
	[OPT_GID] = (char *)"gid", [OPT_UMASK] = (char *)"umask",
	[OPT_FOREGROUND] = (char *)"foreground", [OPT_LOG] = (char *)"log",
	[OPT_OVERLAY_OPTIONS] = (char *)"overlay_options",
	[OPT_MAX_DEPTH] = (char *)"max_depth", [OPT_HOOKS] = (char *)"hooks",
	[OPT_HOOK_TIMEOUT] = (char *)"hook_timeout", [OPT_RO] = (char *)"ro", NULL,
};

/* There are no devices, set-user-id files or programs in the tree, and access
 * times are not kept, whatever these say. */
static bool is_harmless(const char *option)
{
	static const char *const words[] = {
		"rw", "defaults", "auto", "noauto", "_netdev", "nofail", "user", "nouser", "users",
		"dev", "nodev", "suid", "nosuid", "exec", "noexec", "async", "atime", "noatime",
		"relatime", "norelatime", "diratime", "nodiratime", "default_permissions",
	};
	static const char *const beginnings[] = { "x-", "X-", "comment=", "dev=" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (streq(option, words[i]))
			return true;
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
		if (strncmp(option, beginnings[i], strlen(beginnings[i])) == 0)
			return true;
	return false;
}

static bool takes_value(enum token token)
{
	return token != OPT_ALLOW_OTHER && token != OPT_FOREGROUND && token != OPT_RO;
}

static int set_option(struct options *o, enum token token, const char *value, struct err *err)
{
	if (takes_value(token) && (!value || !*value))
		return err_set(err, EINVAL, "the option %s needs a value: %s=...", tokens[token],
			       tokens[token]);
	if (!takes_value(token) && value)
		return err_set(err, EINVAL, "the option %s takes no value", tokens[token]);
	switch (token) {
	case OPT_URI:
		set_text(&o->uri, value);
		return 0;
	case OPT_STATE:
		return set_dir(&o->state_dir, "state", value, err);
	case OPT_STORE:
		return set_dir(&o->store, "store", value, err);
	case OPT_ALLOW_OTHER:
		o->allow_other = true;
		return 0;
	case OPT_UID:
		return set_uid(o, value, err);
	case OPT_GID:
		return set_gid(o, value, err);
	case OPT_UMASK:
		return set_umask(o, value, err);
	case OPT_FOREGROUND:
		o->foreground = true;
		return 0;
	case OPT_LOG:
		return set_log(o, value, err);
	case OPT_OVERLAY_OPTIONS:
		set_overlay_options(o, value);
		return 0;
	case OPT_MAX_DEPTH:
		return set_max_depth(o, value, err);
	case OPT_HOOKS:
		return set_dir(&o->hooks, "hooks", value, err);
	case OPT_HOOK_TIMEOUT:
		return set_hook_timeout(o, value, err);
	case OPT_RO:
		return err_set(err, EINVAL, "kwsfs cannot be mounted read-only: use modes to let "
			       "somebody only read");
	}
	return 0;
}

static int parse_options(struct options *o, const char *list, struct err *err)
{
	cleanup_free char *copy = xstrdup(list);
	char *rest = copy, *value;

	while (*rest) {
		const char *whole = rest;
		int token = getsubopt(&rest, tokens, &value);
		int r = 0;

		if (token >= 0)
			r = set_option(o, token, value, err);
		else if (*whole && !is_harmless(value))
			r = err_set(err, EINVAL, "there is no option '%s'", value);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the command line ---- */

/* [URI] [MOUNTPOINT]; mount(8) gives "none" where there is nothing to say. */
static int set_arguments(struct options *o, int n, char **argv, struct err *err)
{
	const char *uri = n == 2 ? argv[0] : NULL;

	if (n > 2)
		return err_set(err, EINVAL, "there are too many arguments: '%s'", argv[2]);
	if (n > 0)
		set_text(&o->mountpoint, argv[n - 1]);
	if (!uri || streq(uri, "none"))
		return 0;
	if (o->uri)
		return err_set(err, EINVAL, "the URI is given twice");
	set_text(&o->uri, uri);
	return 0;
}

typedef int parse_fn(int argc, char **argv, struct options *o, struct err *err);

static int set_uri(struct options *o, int n, char **argv, struct err *err)
{
	if (n > 1)
		return err_set(err, EINVAL, "there are too many arguments: '%s'", argv[1]);
	if (n == 0 || streq(argv[0], "none"))
		return 0;
	if (o->uri)
		return err_set(err, EINVAL, "the URI is given twice");
	set_text(&o->uri, argv[0]);
	return 0;
}

static int parse_fsck(int argc, char **argv, struct options *o, struct err *err)
{
	static const struct option longs[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	int c, said = 0, r = 0;

	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while (r >= 0 && (c = getopt_long(argc, argv, ":o:nyh", longs, NULL)) != -1) {
		switch (c) {
		case 'o':
			r = parse_options(o, optarg, err);
			break;
		case 'n':
		case 'y':
			if (said && said != c)
				return err_set(err, EINVAL, "-n and -y exclude each other");
			said = c;
			o->repair = c == 'y';
			break;
		case 'h':
			o->action = ACTION_HELP;
			return 0;
		case ':':
			return err_set(err, EINVAL, "%s needs a value", argv[optind - 1]);
		default:
			return err_set(err, EINVAL, "there is no option %s", argv[optind - 1]);
		}
	}
	return r < 0 ? r : set_uri(o, argc - optind, argv + optind, err);
}

static int parse(int argc, char **argv, struct options *o, struct err *err)
{
	static const struct option longs[] = {
		{ "foreground", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	int c, r = 0;

	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while (r >= 0 && (c = getopt_long(argc, argv, ":o:fhV", longs, NULL)) != -1) {
		switch (c) {
		case 'o':
			r = parse_options(o, optarg, err);
			break;
		case 'f':
			o->foreground = true;
			break;
		case 'h':
			o->action = ACTION_HELP;
			return 0;
		case 'V':
			o->action = ACTION_VERSION;
			return 0;
		case ':':
			return err_set(err, EINVAL, "%s needs a value", argv[optind - 1]);
		default:
			return err_set(err, EINVAL, "there is no option %s", argv[optind - 1]);
		}
	}
	return r < 0 ? r : set_arguments(o, argc - optind, argv + optind, err);
}

static int options_fill(parse_fn *parse_all, int argc, char **argv, struct options *ret,
			struct err *err)
{
	struct options o = { .uid = geteuid(), .gid = getegid(), .umask = DEFAULT_UMASK,
			     .max_depth = DEPTH_DEFAULT, .log_level = LOG_INFO };
	int r = parse_all(argc, argv, &o, err);

	if (r < 0) {
		options_clear(&o);
		return r;
	}
	if (!o.log_given)
		o.log_target = o.foreground ? LOG_TO_STDERR : LOG_TO_SYSLOG;
	if (!o.uri)
		o.uri = xstrdup(DEFAULT_URI);
	if (!o.mountpoint)
		o.mountpoint = xstrdup(DEFAULT_MOUNTPOINT);
	if (!o.state_dir)
		o.state_dir = xstrdup(DEFAULT_STATE);
	*ret = o;
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret, struct err *err)
{
	return options_fill(parse, argc, argv, ret, err);
}

int options_parse_fsck(int argc, char **argv, struct options *ret, struct err *err)
{
	return options_fill(parse_fsck, argc, argv, ret, err);
}

void options_clear(struct options *o)
{
	free(o->uri);
	free(o->mountpoint);
	free(o->state_dir);
	free(o->store);
	free(o->overlay_options);
	free(o->hooks);
	*o = (struct options){ .action = ACTION_HELP };
}
