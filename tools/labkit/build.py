# SPDX-License-Identifier: Apache-2.0
"""The build folders that the checks use."""
import os
import subprocess

from . import TOP, ToolError, host

KINDS = {
    "normal": ({}, ["--buildtype=debugoptimized", "-Dtests=false"]),
    "sanitize": ({}, ["--buildtype=debug", "-Doptimization=1",
                      "-Db_sanitize=address,undefined", "-Db_lundef=false"]),
    "fuzz": ({"CC": "clang"}, ["--buildtype=debug", "-Doptimization=1",
                               "-Dfuzz=true", "-Dtests=false",
                               "-Db_sanitize=address,undefined", "-Db_lundef=false",
                               "-Dc_args=-fsanitize=fuzzer-no-link"]),
}
SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}


def folder(kind):
    return os.path.join(TOP, "build", kind)


def ensure(kind, targets=()):
    """Configures the folder at first use and builds the targets (all, when none is named).
    Output is shown only if it fails. Returns the folder."""
    env, options = KINDS[kind]
    path = folder(kind)
    if not os.path.exists(os.path.join(path, "build.ninja")):
        _run([host.program("meson"), "setup", path, TOP, *options], env)
    _run([host.program("ninja"), "-C", path, *targets], {})
    return path


def _run(command, env):
    done = subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise ToolError(f"'{' '.join(command)}' failed:\n{done.stdout[-6000:]}")
