/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/program.h"

#include "common/cleanup.h"
#include "common/timespec.h"
#include "common/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define LISTEN_MS 10

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- starting ---- */

static int spawn(const char *const argv[], char *const environment[], bool apart,
		 const int fds[3], pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, pipe;
	int rc;

	/* The daemon's threads block signals, and it ignores SIGPIPE; the program must not
	 * inherit that. */
	sigemptyset(&none);
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &pipe);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
					(apart ? POSIX_SPAWN_SETPGROUP : 0));
	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&actions, fds[i], i);
	if (apart)
		posix_spawn_file_actions_addchdir_np(&actions, "/");
	rc = posix_spawnp(ret, argv[0], &actions, &attr, (char *const *)argv, environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

/* setpriv gives the program the order to end with the thread that started it, and
 * becomes the program then. */
static const char **with_setpriv(const char *const argv[], bool bound)
{
	static const char *const before[] = { "setpriv", "--pdeathsig", "TERM" };
	vec_of(const char *) all = { 0 };

	for (size_t i = 0; bound && i < 3; i++)
		vec_push(&all, before[i]);
	for (size_t i = 0; argv[i]; i++)
		vec_push(&all, argv[i]);
	vec_push(&all, NULL);
	return all.at;
}

/* A pipe, of which the program gets one end. */
static int open_pipe(bool wanted, bool to_program, int null_fd, int *ret_ours, int *ret_theirs)
{
	int fds[2];

	*ret_ours = -1;
	*ret_theirs = null_fd;
	if (!wanted)
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ret_ours = fds[to_program];
	*ret_theirs = fds[!to_program];
	return 0;
}

int program_start(struct program *p, const char *const argv[], unsigned flags, struct err *err)
{
	return program_start_with(p, argv, environ, flags, err);
}

int program_start_with(struct program *p, const char *const argv[], char *const environment[],
		       unsigned flags, struct err *err)
{
	cleanup_close int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	cleanup_free const char **all = with_setpriv(argv, flags & PROGRAM_BOUND);
	int theirs[3] = { -1, -1, -1 };
	int r = null_fd < 0 ? -errno : 0;

	*p = (struct program){ .name = argv[0], .in = -1, .out = -1, .error = -1 };
	if (r >= 0)
		r = open_pipe(flags & PROGRAM_IN, true, null_fd, &p->in, &theirs[0]);
	if (r >= 0)
		r = open_pipe(flags & PROGRAM_OUT, false, null_fd, &p->out, &theirs[1]);
	if (r >= 0)
		r = open_pipe(true, false, null_fd, &p->error, &theirs[2]);
	if (r >= 0)
		r = spawn(all, environment, flags & PROGRAM_APART, theirs, &p->pid);
	for (int i = 0; i < 3; i++)
		if (theirs[i] >= 0 && theirs[i] != null_fd)
			close(theirs[i]);
	if (r >= 0)
		return 0;
	close_fd(&p->in);
	close_fd(&p->out);
	close_fd(&p->error);
	return err_sys(err, -r, "cannot start %s", argv[0]);
}

/* ---- listening ---- */

/* All is read: it must not block the program. What does not fit any more is the oldest. */
static void read_complaint(struct program *p)
{
	char part[512];
	ssize_t n = read(p->error, part, sizeof(part));
	size_t room = sizeof(p->said) - 1 - p->n_said, surplus;

	if (n <= 0) {
		if (n == 0 || errno != EINTR)
			close_fd(&p->error);
		return;
	}
	surplus = (size_t)n > room ? n - room : 0;
	memmove(p->said, p->said + surplus, p->n_said - surplus);
	p->n_said -= surplus;
	memcpy(p->said + p->n_said, part, n);
	p->n_said += n;
}

int program_listen(struct program *p)
{
	struct pollfd fds[2] = { { p->out, POLLIN, 0 }, { p->error, POLLIN, 0 } };

	if (p->error < 0)
		return -EPIPE;
	if (poll(fds, 2, LISTEN_MS) <= 0)
		return 0;
	if (fds[1].revents)
		read_complaint(p);
	return fds[0].revents & POLLIN ? 1 : 0;
}

/* ---- the end ---- */

static int complaint_to_errno(const char *complaint)
{
	if (strstr(complaint, strerror(ENOSPC)))
		return ENOSPC;
	if (strstr(complaint, "\" lock"))
		return EBUSY;
	return EIO;
}

/* As one line. */
static const char *complaint(struct program *p)
{
	while (p->n_said > 0 && p->said[p->n_said - 1] == '\n')
		p->n_said--;
	p->said[p->n_said] = '\0';
	for (char *c = p->said; (c = strchr(c, '\n')); )
		*c = ' ';
	return p->said[0] ? p->said : "it does not say why";
}

static int wait_for(struct program *p, int *ret_status)
{
	close_fd(&p->in);
	close_fd(&p->out);
	while (p->error >= 0)
		read_complaint(p);
	while (waitpid(p->pid, ret_status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int program_end(struct program *p, struct err *err)
{
	int status, r = wait_for(p, &status);

	if (r < 0)
		return err_sys(err, -r, "lost track of %s", p->name);
	if (WIFSIGNALED(status))
		return err_set(err, EIO, "%s was ended by signal %d", p->name, WTERMSIG(status));
	if (WEXITSTATUS(status) == 127 && strstr(p->said, "setpriv"))
		return err_set(err, ENOENT, "%s cannot be run (is it installed?)", p->name);
	if (WEXITSTATUS(status) != 0)
		return err_set(err, complaint_to_errno(complaint(p)), "%s failed: %s", p->name,
			       complaint(p));
	return 0;
}

/* ---- the end of one that may have left others running ---- */

#define TERM_SECONDS 2 /* to end in an orderly way, when it is told to */

static int ms_until(const struct timespec *due)
{
	struct timespec now;
	long long ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (due->tv_sec - now.tv_sec) * 1000LL + (due->tv_nsec - now.tv_nsec) / 1000000;
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : ms;
}

/* Reads what it says until it has ended, or `seconds` are over: false. */
static bool listen_until_end(struct program *p, int pidfd, unsigned seconds)
{
	struct timespec due = monotonic_in(seconds * 1000LL);
	int ms;

	while ((ms = ms_until(&due)) > 0) {
		struct pollfd fds[2] = { { pidfd, POLLIN, 0 }, { p->error, POLLIN, 0 } };

		if (poll(fds, 2, ms) <= 0)
			continue;
		if (fds[1].revents)
			read_complaint(p);
		else if (fds[0].revents)
			return true;
	}
	return false;
}

static void reap(struct program *p, int *ret_status)
{
	while (waitpid(p->pid, ret_status, 0) < 0 && errno == EINTR)
		continue;
	close_fd(&p->error);
}

int program_end_within(struct program *p, unsigned seconds, int *ret_status, struct err *err)
{
	cleanup_close int pidfd = pidfd_open(p->pid, 0);
	int status = 0, r = pidfd < 0 ? -errno : 0;

	close_fd(&p->in);
	close_fd(&p->out);
	if (r < 0) {
		kill(-p->pid, SIGKILL);
		reap(p, &status);
		return err_sys(err, -r, "cannot follow %s", p->name);
	}
	if (listen_until_end(p, pidfd, seconds)) {
		reap(p, ret_status);
		return 0;
	}
	kill(-p->pid, SIGTERM);
	listen_until_end(p, pidfd, TERM_SECONDS);
	kill(-p->pid, SIGKILL);
	reap(p, &status);
	return err_set(err, ETIMEDOUT, "%s took longer than %u seconds, and was ended", p->name,
		       seconds);
}

const char *program_last_line(struct program *p)
{
	const char *line;

	while (p->n_said > 0 && strchr(" \t\r\n", p->said[p->n_said - 1]))
		p->n_said--;
	p->said[p->n_said] = '\0';
	line = strrchr(p->said, '\n');
	return line ? line + 1 : p->said;
}

void program_kill(struct program *p)
{
	int status;

	kill(p->pid, SIGTERM);
	wait_for(p, &status);
}
