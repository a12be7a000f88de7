#!/bin/sh
# Rebuilds player.bundle.js from src/*.js: three.js 0.187.0 and OrbitControls (MIT), only what the player uses, minified.
# Needs node and npm; packages go to a temporary folder. Run it after every change in src/ and commit the result.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$here/src" "$here/package.json" "$work"
cd "$work"
npm install --silent --no-audit --no-fund
sha=$(cat src/*.js | sha256sum | cut -d ' ' -f 1)
{
  printf '/*!\nBuilt by build.sh; source sha256 %s\nIncludes three.js 0.187.0 (threejs.org), under this licence:\n\n' "$sha"
  cat "$here/three.LICENSE.txt"
  printf '*/\n'
} > banner.txt
npx esbuild src/player.js --bundle --minify --format=iife --target=es2022 --charset=ascii --legal-comments=none --outfile=bundle.js
cat banner.txt bundle.js > "$here/player.bundle.js"
