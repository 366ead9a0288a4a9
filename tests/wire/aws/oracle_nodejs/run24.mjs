// Runs aws-lambda-ric 4, which begins when it is imported, as a managed runtime does.

Object.assign(process.env, { _HANDLER: process.argv[3], LAMBDA_TASK_ROOT: process.cwd() });
await import(process.argv[2]);
