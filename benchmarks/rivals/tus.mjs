// tus-node-server, as its documentation has it: `node tus.mjs PORT FOLDER MODULES` keeps uploads in FOLDER.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [port, folder, modules] = process.argv.slice(2)
const { resolve } = createRequire(join(modules, 'package.json'))
const { Server } = await import(pathToFileURL(resolve('@tus/server')))
const { FileStore } = await import(pathToFileURL(resolve('@tus/file-store')))

const server = new Server({ path: '/files', datastore: new FileStore({ directory: folder }) })
server.get('/ready', () => new Response(null, { status: 204 }))
server.listen({ host: '127.0.0.1', port })
