#!/usr/bin/env bash
# mkdocs-material 9.8.2 with its plugin "offline", a site of one page.
#   guess   a site that is built with it needs no network: its search works from the disk
#   found   its pages load a script from unpkg.com, without which there is no search on pages that are opened from the disk
. "$(dirname "${BASH_SOURCE[0]}")/with.sh" mkdocs-material==9.8.2 mkdocs==1.6.1
mkdir docs
echo '# A page' > docs/index.md
printf 'site_name: A site\ntheme: {name: material, font: false}\nplugins: [search, offline]\n' > mkdocs.yml
NO_MKDOCS_2_WARNING=1 python -m mkdocs build --quiet
grep -o '<script src="[^"]*"' site/index.html
grep -q '<script src="https://unpkg.com/iframe-worker/shim"' site/index.html
