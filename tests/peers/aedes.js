// An aedes on the loopback, with its sessions in memory: node aedes.js PORT

const { createRequire } = require('node:module')
const { createServer } = require('node:net')
const { join } = require('node:path')

const here = createRequire(join(process.env.PEERS, 'package.json'))

async function main () {
  const { Aedes } = await import(here.resolve('aedes'))
  const aedes = await Aedes.createBroker()
  createServer(aedes.handle).listen(Number(process.argv[2]), '127.0.0.1')
}

main()
