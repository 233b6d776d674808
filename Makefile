# SPDX-License-Identifier: Apache-2.0
#
# A thin front to Meson and the tools. Each target installs the Debian packages it lacks
# (tools/install-packages says so first), so each works as the first command on a fresh machine.

BUILD  ?= build/normal
PREFIX ?= /usr/local
MESON_OPTIONS ?=

all: build

help:
	@echo "make            build the programs into $(BUILD)"
	@echo "make demo       boot a Linux guest whose disk lives in another process"
	@echo "make check      every test: units, fuzz targets, small guests, Linux guests"
	@echo "make bench      measurements, beside stock QEMU"
	@echo "make fuzz       fuzz every target for SECONDS_EACH=60"
	@echo "make install    into PREFIX=$(PREFIX), DESTDIR honoured"
	@echo "make clean      remove the builds; make distclean also the downloaded kernels"

build:
	@tools/install-packages build
	@test -f $(BUILD)/build.ninja || \
	    meson setup $(BUILD) --prefix=$(PREFIX) --buildtype=debugoptimized \
	        -Dtests=false $(MESON_OPTIONS)
	@ninja -C $(BUILD)

demo: build
	@tools/install-packages lab
	@tools/demo --build $(BUILD)

check:
	@tools/install-packages build lab check
	@tools/check

fuzz:
	@tools/install-packages build check
	@tools/fuzz --seconds $(or $(SECONDS_EACH),60)

bench: build
	@tools/install-packages lab bench
	@tools/bench --build $(BUILD)

install: build
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build/normal build/sanitize build/fuzz build/tests

distclean:
	rm -rf build

.PHONY: all help build demo check fuzz bench install clean distclean
