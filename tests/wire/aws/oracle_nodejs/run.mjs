// Runs aws-lambda-ric as a managed runtime does.

const { run } = await import(process.argv[2]);
await run(process.cwd(), process.argv[3]);
