// A x4 model of UpscalerJS, run by TensorFlow.js on a CPU (WebAssembly).
//
//     node upscalerjs.mjs MODEL INPUT_FOLDER OUTPUT_FOLDER      MODEL: esrgan-medium, esrgan-thick ...
//
// Start it in a folder where these npm packages are installed: @upscalerjs/MODEL, @tensorflow/tfjs,
// @tensorflow/tfjs-backend-wasm, sharp.

import {readFileSync, readdirSync} from 'node:fs';
import {createRequire} from 'node:module';
import path from 'node:path';

const [name, inputs, results] = process.argv.slice(2);
if (!results) {
  console.error('expected: node upscalerjs.mjs MODEL INPUT_FOLDER OUTPUT_FOLDER');
  process.exit(2);
}
const load = createRequire(path.join(process.cwd(), 'package.json'));
const tf = load('@tensorflow/tfjs');
load('@tensorflow/tfjs-backend-wasm');
const sharp = load('sharp');
await tf.setBackend('wasm');

const definition = load(`@upscalerjs/${name}/4x`);
definition.setup?.(tf); // registers the layers that the model defines
const folder = path.join(process.cwd(), 'node_modules', '@upscalerjs', name, path.dirname(definition._internals.path));
const description = JSON.parse(readFileSync(path.join(folder, 'model.json'), 'utf-8'));
const files = description.weightsManifest.flatMap((group) => group.paths);
const weights = Buffer.concat(files.map((file) => readFileSync(path.join(folder, file))));
const model = await tf.loadLayersModel(tf.io.fromMemory({
  modelTopology: description.modelTopology,
  weightSpecs: description.weightsManifest.flatMap((group) => group.weights),
  weightData: new Uint8Array(weights).buffer,
}));
const [, highest] = definition.inputRange;
const [, highestResult] = definition.outputRange;

for (const file of readdirSync(inputs).sort()) {
  const {data, info} = await sharp(path.join(inputs, file)).removeAlpha().toColourspace('srgb').raw()
    .toBuffer({resolveWithObject: true});
  const enlarged = tf.tidy(() => {
    const picture = tf.tensor4d(Float32Array.from(data), [1, info.height, info.width, 3]);
    const levels = model.predict(picture.mul(highest / 255)).mul(255 / highestResult);
    return levels.clipByValue(0, 255).round();
  });
  const [, height, width] = enlarged.shape;
  await sharp(Buffer.from(await enlarged.data()), {raw: {width, height, channels: 3}})
    .png().toFile(path.join(results, `${path.parse(file).name}.png`));
  enlarged.dispose();
  console.log(file);
}
