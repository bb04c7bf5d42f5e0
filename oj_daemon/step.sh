# The process around one shell step: claims the run folder, runs the script, records how it ended.
#
# Rule: whatever happens to the daemon, `claim` says how the script ended once it has ended; and of two wrappers started
# for one folder only one runs the script. Plain sh, builtins only: dash starts in half the time of bash, and every
# exec would be paid by each step.
#
#   sh step.sh RUN_FOLDER WORKING_DIRECTORY BASH UMASK OPEN_FILES
#
# The braces make the shell read all of this before it runs any of it, so that replacing the file (an upgrade) cannot
# change a wrapper that is at work.
{
    # Handlers, not "ignore": the script gets the default actions back, this shell lives on to record the exit status.
    trap : HUP INT QUIT PIPE ALRM TERM USR1 USR2

    # From here on this shell's own remarks ("Killed") stay out of the step's output.
    exec 3>&2 2>/dev/null

    # noclobber creates with O_EXCL: exactly one wrapper gets past this, and the claim's first line names it.
    set -C
    if ! { echo "$$" >"$1/claim"; }; then
        [ -s "$1/claim" ] && exit 0
        echo "oj: cannot write to the run folder $1" >&3
        exit 125
    fi

    if cd "$2"; then
        umask "$4"
        ulimit -S -n "${5:-1024}"
        unset OLDPWD
        # In brackets, because dash would redirect itself for the time of the command.
        (exec "$3" -euo pipefail "$1/script" 2>&3 3>&-)
        status=$?
        code=$status
    else
        echo "oj: the working directory $2 is gone or cannot be entered" >&3
        status=cwd
        code=125
    fi

    # One short write: a reader that sees no newline knows that the line is not finished.
    echo "$status" >>"$1/claim"
    exit "$code"
}
