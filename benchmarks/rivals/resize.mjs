// sharp, as its documentation has it: three widths and the original size, as WebP, one thread.
// `node resize.mjs PHOTO COUNT FOLDER` prints one line of figures.
import { createRequire } from 'node:module'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [photo, count, modules] = process.argv.slice(2)
const sharp = createRequire(join(modules, 'package.json'))('sharp')
sharp.concurrency(1)
sharp.cache(false) // each picture of a real queue is another one
const WEBP = { quality: 80, effort: 2 }

async function variants() {
  const folder = mkdtempSync(join(tmpdir(), 'sharp-'))
  for (const width of [320, 800, 1600]) {
    const resized = sharp(photo).autoOrient().resize({ width, withoutEnlargement: true })
    await resized.webp(WEBP).toFile(join(folder, `${width}.webp`))
  }
  await sharp(photo).autoOrient().webp(WEBP).toFile(join(folder, 'original.webp'))
  rmSync(folder, { recursive: true })
}

await variants()
const started = performance.now()
for (let n = 0; n < Number(count); n++) await variants()
const seconds = (performance.now() - started) / 1000 / Number(count)
const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024 / 1e6
console.log(JSON.stringify({ seconds, peak }))
